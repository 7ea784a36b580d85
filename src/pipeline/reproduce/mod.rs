//! `w2s reproduce`: a recipe from its data to its figure, in one process.

mod options;
mod summary;

use std::path::Path;

use super::data::{DataCommand, DataJob};
use super::job::Job;
use super::note::Note;
use super::observer::{Event, Resume};
use super::session::Session;
use super::step::{Step, run_steps};
use crate::error::{Error, ErrorKind, Result};
use crate::eval::{Comparison, Role};
use crate::recipe::{Expanded, Published, Recipe, RecipeStep};
use crate::report::{
    PublishedBar, RecipeResult, comparison_bars, markdown_cell, published_bars, stack, write_figure,
};
use crate::run::write_atomic;
use crate::server::ServerAddress;

pub use options::{PlaceOptions, ReproduceJob};
pub use summary::{RecipeListing, Reproduction};

impl PlaceOptions {
    /// Returns the recipe's steps, each understood.
    pub(super) fn expand(&self, recipe: &Recipe, out: &Path) -> Result<(Expanded, Vec<Step>)> {
        let expanded = recipe.expand(&self.scale, &self.set, &self.data_dir, out)?;
        let steps = expanded.steps.iter().map(|step| Step::parse(&step.name, &step.argv));
        let steps = steps.collect::<Result<_>>()?;
        Ok((expanded, steps))
    }

    /// Fetches what is missing of the data, and says which models are.
    pub(super) fn prepare(
        &self,
        recipe: &Recipe,
        (expanded, steps): (&Expanded, &[Step]),
        session: &mut Session,
    ) -> Result<()> {
        let mut missing: Vec<String> = Vec::new();
        for step in steps {
            let model = step.job.model().map(|options| options.model.display().to_string());
            let is_missing = |m: &String| {
                !Path::new(m).is_dir() && !ServerAddress::is_meant(m) && !missing.contains(m)
            };
            missing.extend(model.filter(is_missing));
        }
        if !missing.is_empty() {
            let named: Vec<&str> = expanded
                .values
                .iter()
                .filter(|(_, value)| {
                    value.as_str().is_some_and(|text| missing.iter().any(|model| model == text))
                })
                .map(|(name, _)| name.as_str())
                .collect();
            let how: Vec<String> = named.iter().map(|name| format!("`--set {name}=DIR`")).collect();
            return Err(Error::new(
                ErrorKind::Config,
                format!("there is no model folder {}", missing.join(", ")),
            )
            .hint(format!(
                "fetch the model, or say where it is with {}",
                if how.is_empty() { "`--set NAME=DIR`".into() } else { how.join(" ") }
            )));
        }
        for input in &recipe.inputs {
            let path = self.data_dir.join(&input.file);
            let is_read = steps.iter().any(|step| step.job.speaks_of(&path))
                && input.scale.as_ref().is_none_or(|scale| *scale == self.scale);
            if path.exists() || !is_read {
                continue;
            }
            let Some(pull) = &input.pull else {
                return Err(Error::new(ErrorKind::Data, "a data file of the recipe is missing")
                    .at(&path)
                    .hint(format!("{}; or name another folder with `--data-dir`", input.about)));
            };
            let argv: Vec<String> = ["data", "pull"]
                .into_iter()
                .chain(pull.split_whitespace())
                .map(Into::into)
                .collect();
            let mut step = Step::parse(format!("data/{}", input.file.display()), &argv)?;
            if let Job::Data(DataJob { command: DataCommand::Pull(job) }) = &mut step.job {
                job.out = Some(path.clone());
            }
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)
                    .map_err(|e| Error::io("make the folder", folder, &e))?;
            }
            run_steps(&[step], session)?;
        }
        Ok(())
    }
}

pub(super) fn run(args: ReproduceJob, session: &mut Session) -> Result<Reproduction> {
    let done = reproduce(&args, session)?;
    session.voice.event(&Event::Reproduced(&done))?;
    Ok(done)
}

fn reproduce(args: &ReproduceJob, session: &mut Session) -> Result<Reproduction> {
    let Some(name) = &args.recipe else { return list() };
    let recipe = Recipe::load(name)?;
    let out = args
        .out
        .clone()
        .unwrap_or_else(|| Path::new("runs").join(format!("{}-{}", recipe.name, args.place.scale)));
    let (expanded, steps) = args.place.expand(&recipe, &out)?;
    if args.dry_run {
        return Ok(Reproduction::Steps(steps.iter().map(Step::typed).collect()));
    }
    session.voice.note(&Note::Recipe {
        title: recipe.title.clone(),
        source: recipe.source.clone(),
        num_steps: steps.len(),
    });
    args.place.prepare(&recipe, (&expanded, &steps), session)?;
    let around = args.reuse.clone().or_else(|| out.parent().map(Path::to_path_buf));
    session.reuse_from(around);
    session.voice.interruptible(Resume::Recipe { folder: &out });
    run_steps(&steps, session)?;
    let results = results(&recipe, &expanded, &steps)?;
    write(&recipe, &args.place.scale, &results, &out)?;
    Ok(Reproduction::Results { results: results.lines, folder: out })
}

/// The recipes that are built in.
fn list() -> Result<Reproduction> {
    let listed = |(name, _): (&str, &str)| {
        let recipe = Recipe::load(name)?;
        let scales = recipe.scales.into_keys().collect();
        Ok(RecipeListing { name: name.to_owned(), scales, title: recipe.title })
    };
    Recipe::built_in().map(listed).collect::<Result<_>>().map(Reproduction::Recipes)
}

/// What the comparisons of a recipe found.
struct Results {
    lines: Vec<RecipeResult>,
    figures: Vec<String>,
}

fn results(recipe: &Recipe, expanded: &Expanded, steps: &[Step]) -> Result<Results> {
    let mut all = Results { lines: Vec::new(), figures: Vec::new() };
    let all_steps = expanded.steps.iter().zip(steps);
    for (step, _) in all_steps.filter(|(_, step)| matches!(step.job, Job::Compare(_))) {
        let path = step.out.join("comparison.json");
        let text = std::fs::read_to_string(&path).map_err(|e| Error::io("read", &path, &e))?;
        let comparison: Comparison = serde_json::from_str(&text)
            .map_err(|e| Error::new(ErrorKind::Run, format!("not a comparison: {e}")).at(&path))?;
        add(recipe, step, &comparison, &mut all);
    }
    Ok(all)
}

fn add(recipe: &Recipe, step: &RecipeStep, comparison: &Comparison, all: &mut Results) {
    let key = step.published_set();
    let group = if step.group().is_empty() { comparison.task.as_str() } else { step.group() };
    // Two comparisons of one task are told apart by what they are for.
    let title = match step.group() {
        "" => comparison.task.clone(),
        group => format!("{}, {}", comparison.task, group.replace('/', ", ")),
    };
    let titled = Comparison { task: title, ..comparison.clone() };
    for (index, column) in comparison.columns.iter().enumerate() {
        if index == 0 || recipe.published.is_empty() {
            all.figures.push(comparison_bars(&titled, column));
        }
        for method in &column.methods {
            let published = recipe
                .published
                .iter()
                .find(|number| Some(number.set.as_str()) == key && number.method == method.name);
            let pgr = column.pgr.iter().find(|pgr| pgr.method == method.name);
            let pgr = pgr.filter(|_| method.role == Role::Method);
            all.lines.push(RecipeResult {
                set: group.to_owned(),
                gold_column: column.gold_column.clone(),
                method: method.name.clone(),
                accuracy: method.accuracy.value,
                interval: [method.accuracy.low, method.accuracy.high],
                num_items: column.num_items,
                num_runs: method.runs.len(),
                pgr: pgr.and_then(|pgr| pgr.pgr.map(|e| e.value)),
                pgr_interval: pgr.and_then(|pgr| pgr.pgr.map(|e| [e.low, e.high])),
                pgr_refused: pgr.and_then(|p| p.remark.clone().filter(|_| p.pgr.is_none())),
                published: published.map(|number| number.percent / 100.0),
                published_model: published.map(|number| number.model.clone()),
                published_set: published.map(|number| number.set.clone()),
            });
        }
    }
}

/// Returns a chart of each data set's published numbers that stand beside none of ours.
fn published_figures(recipe: &Recipe, numbers: &[&Published]) -> Vec<String> {
    let mut sets: Vec<&str> = Vec::new();
    for number in numbers {
        if !sets.contains(&number.set.as_str()) {
            sets.push(&number.set);
        }
    }
    let figure = |set: &&str| {
        let own = numbers.iter().filter(|number| number.set == **set);
        let bars: Vec<PublishedBar> = own
            .map(|number| PublishedBar {
                name: number.method.clone(),
                percent: number.percent,
                model: number.model.clone(),
            })
            .collect();
        let title = format!("Published: {set}");
        published_bars(&title, &format!("other data and models; {}", recipe.published_in), &bars)
    };
    sets.iter().map(figure).collect()
}

fn write(recipe: &Recipe, scale: &str, results: &Results, out: &Path) -> Result<()> {
    let json = serde_json::to_string_pretty(&results.lines)
        .map_err(|e| Error::new(ErrorKind::Internal, format!("cannot write: {e}")))?;
    write_atomic(&out.join("results.json"), format!("{json}\n").as_bytes())?;
    let head = RecipeResult::COLUMNS.map(str::to_owned).to_vec();
    let rows = std::iter::once(head).chain(results.lines.iter().map(RecipeResult::cells));
    let mut page = format!(
        "# {}\n\n{}\n\nSource: {}\n\nScale `{scale}`. Accuracy in percent with its 95 % interval",
        recipe.title, recipe.about, recipe.source
    );
    page += " over items and seeds.";
    if !recipe.published_in.is_empty() {
        page += &format!(
            " Published numbers: {}; they are of other models and sizes.",
            recipe.published_in
        );
    }
    page += "\n\n";
    for (index, row) in rows.enumerate() {
        let cells: Vec<String> = row.iter().map(|cell| markdown_cell(cell)).collect();
        page += &format!("| {} |\n", cells.join(" | "));
        if index == 0 {
            page += &format!("|{}\n", "---|".repeat(row.len()));
        }
    }
    let elsewhere: Vec<&Published> = recipe
        .published
        .iter()
        .filter(|number| !results.lines.iter().any(|line| shows(line, number)))
        .collect();
    if !elsewhere.is_empty() {
        page += "\nPublished, on other data:\n\n| set | method | accuracy | model |\n|---|---|---|---|\n";
        for p in &elsewhere {
            page += &format!("| {} | {} | {:.1} | {} |\n", p.set, p.method, p.percent, p.model);
        }
    }
    let refused = results.lines.iter().filter_map(|line| {
        line.pgr_refused.as_ref().map(|why| format!("\nNo PGR on {}: {why}\n", line.set))
    });
    let mut said: Vec<String> = refused.collect();
    said.dedup();
    page += &said.concat();
    write_atomic(&out.join("results.md"), page.as_bytes())?;
    let mut figures = results.figures.clone();
    figures.extend(published_figures(recipe, &elsewhere));
    if !figures.is_empty() {
        write_figure(out, "figure", &stack(&figures), None)?;
    }
    Ok(())
}

/// Whether a result stands beside a published number.
fn shows(result: &RecipeResult, number: &Published) -> bool {
    result.published_set.as_ref() == Some(&number.set) && result.method == number.method
}
