//! SVG to PNG and PDF, with a font of our own.
//!
//! A fresh machine may have no font at all, and two machines seldom have the same; so the picture
//! is drawn with Noto Sans, which the program carries (regular and bold, some 400 kB).

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::fontdb::Database;
use resvg::usvg::{Options, Tree};

use svg2pdf::{ConversionOptions, PageOptions};

use crate::error::{Error, ErrorKind, Result};

const FAMILY: &str = "Noto Sans";

/// Returns the PNG of an SVG document, `scale` pixels to the user unit.
///
/// # Errors
/// When the document is not SVG, or the picture would be empty or too large.
pub fn render_png(svg: &str, scale: f32) -> Result<Vec<u8>> {
    let tree = tree_of(svg)?;
    let size = tree.size();
    let pixels = |length: f32| (length * scale).round() as u32;
    let (width, height) = (pixels(size.width()), pixels(size.height()));
    let mut pixmap = Pixmap::new(width, height)
        .ok_or_else(|| failed(&format!("cannot draw a picture of {width} x {height} pixels")))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixmap.as_mut());
    pixmap.encode_png().map_err(|source| failed(&format!("cannot encode the picture: {source}")))
}

/// Returns the PDF of an SVG document, one page of its size: of `width_inches`, or of a point to the user unit.
/// Its text is drawn as outlines, so that it needs no font and the same figure has the same bytes.
///
/// # Errors
/// When the document is not SVG or cannot be written as PDF.
pub fn render_pdf(svg: &str, width_inches: Option<f64>) -> Result<Vec<u8>> {
    let tree = tree_of(svg)?;
    let dpi = width_inches.map_or(72.0, |width| tree.size().width() / width as f32);
    // Text as outlines: embedded fonts come in another order each time.
    let options = ConversionOptions { embed_text: false, ..ConversionOptions::default() };
    svg2pdf::to_pdf(&tree, options, PageOptions { dpi })
        .map_err(|source| failed(&format!("cannot write the figure as PDF: {source}")))
}

fn tree_of(svg: &str) -> Result<Tree> {
    let options = Options { fontdb: fonts(), font_family: FAMILY.to_owned(), ..Options::default() };
    Tree::from_str(svg, &options)
        .map_err(|source| failed(&format!("the figure is not SVG: {source}")))
}

fn fonts() -> Arc<Database> {
    static FONTS: OnceLock<Arc<Database>> = OnceLock::new();
    let load = || {
        let mut fonts = Database::new();
        fonts.load_font_data(notosans::REGULAR_TTF.to_vec());
        fonts.load_font_data(notosans::BOLD_TTF.to_vec());
        // The figures end their list of fonts in `sans-serif`; no system font is loaded.
        fonts.set_sans_serif_family(FAMILY);
        Arc::new(fonts)
    };
    Arc::clone(FONTS.get_or_init(load))
}

fn failed(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}
