//! Figures one below the other, as one.

/// Returns one SVG document with the given ones below each other, at the left, where their axes are.
///
/// They must be documents of this program: their size stands in whole units in the first tag.
pub fn stack(figures: &[String]) -> String {
    let sizes: Vec<(f64, f64)> = figures.iter().map(|figure| size(figure)).collect();
    let width = sizes.iter().map(|(width, _)| *width).fold(0.0, f64::max);
    let height: f64 = sizes.iter().map(|(_, height)| height).sum();
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\">\n<rect width=\"{width}\" height=\"{height}\" fill=\"#ffffff\"/>\n"
    );
    let mut y = 0.0;
    for (figure, (_, tall)) in figures.iter().zip(&sizes) {
        out += &figure.replacen("<svg ", &format!("<svg x=\"0\" y=\"{y}\" "), 1);
        if !out.ends_with('\n') {
            out.push('\n');
        }
        y += tall;
    }
    out + "</svg>\n"
}

/// Returns the width and height of a document.
fn size(svg: &str) -> (f64, f64) {
    let head = svg.split('>').next().unwrap_or_default();
    let number = |name: &str| {
        let (_, after) = head.split_once(&format!(" {name}=\""))?;
        after.split('"').next()?.parse().ok()
    };
    (number("width").unwrap_or(0.0), number("height").unwrap_or(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stands_below_the_other() {
        let part = |w: u32, h: u32| {
            format!(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\"></svg>\n"
            )
        };
        let all = stack(&[part(100, 40), part(60, 30)]);
        assert!(
            all.starts_with(
                "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"100\" height=\"70\""
            )
        );
        assert!(all.contains("<svg x=\"0\" y=\"0\" "), "{all}");
        assert!(all.contains("<svg x=\"0\" y=\"40\" "), "{all}");
        assert!(crate::report::render_png(&all, 1.0).is_ok());
    }
}
