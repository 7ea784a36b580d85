//! What `w2s reproduce` prints and says.

use w2s::pipeline::Reproduction;
use w2s::report::{RecipeResult, aligned};

use super::line::Line;

/// The recipes, the steps or the results.
pub(in crate::cli) fn reproduced(done: &Reproduction) -> Vec<Line> {
    match done {
        Reproduction::Recipes(all) => {
            let mut rows = vec![["recipe", "scales", "what"].map(str::to_owned).to_vec()];
            for recipe in all {
                let scales = recipe.scales.join(", ");
                rows.push(vec![recipe.name.clone(), scales, recipe.title.clone()]);
            }
            table(&rows)
        }
        Reproduction::Steps(typed) => typed.iter().cloned().map(Line::Printed).collect(),
        Reproduction::Results { results, folder } => {
            let head = RecipeResult::COLUMNS.map(str::to_owned).to_vec();
            let rows: Vec<Vec<String>> =
                std::iter::once(head).chain(results.iter().map(RecipeResult::cells)).collect();
            let mut lines = table(&rows);
            lines.push(Line::Said(format!(
                "wrote {}: results.md, results.json, figure.svg, figure.pdf, figure.png",
                folder.display()
            )));
            lines
        }
    }
}

fn table(rows: &[Vec<String>]) -> Vec<Line> {
    aligned(rows, &[]).into_iter().map(Line::Printed).collect()
}
