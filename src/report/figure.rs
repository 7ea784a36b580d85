//! Figures as files: each as SVG, as PDF for papers, and as PNG for pages that show no SVG.

use std::fs;
use std::path::{Path, PathBuf};

use super::png::{render_pdf, render_png};
use crate::error::{Error, Result};
use crate::run::write_atomic;

/// Pixels to the user unit in the PNG; two keeps it sharp on dense screens.
const PNG_SCALE: f32 = 2.0;

/// Returns the paths of `DIR/STEM.svg`, `.pdf` and `.png` after writing all; the page of the PDF is so many inches
/// wide, or a point to the user unit.
///
/// The folder is made when it is missing. A file is either the old or the new one, never half.
///
/// # Errors
/// When the SVG cannot be drawn or a file cannot be written.
pub fn write_figure(
    dir: &Path,
    stem: &str,
    svg: &str,
    width_inches: Option<f64>,
) -> Result<Vec<PathBuf>> {
    let png = render_png(svg, PNG_SCALE)?;
    let pdf = render_pdf(svg, width_inches)?;
    let files = [("svg", svg.as_bytes()), ("pdf", pdf.as_slice()), ("png", png.as_slice())];
    let write = |(extension, bytes): (&str, &[u8])| {
        let path = dir.join(format!("{stem}.{extension}"));
        write_whole(&path, bytes).map(|()| path)
    };
    files.into_iter().map(write).collect()
}

/// Writes a file beside its place and moves it there when it is whole.
pub(super) fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(|source| Error::io("create the folder", dir, &source))?;
    }
    write_atomic(path, bytes)
}
