//! Figures and the report page, drawn from the files of finished runs; computes nothing.
//!
//! The last stage of the flow: it reads `eval.json`, `summary.json`, `manifest.json`,
//! `curve.jsonl` and `diagnostics.json` of labelling and filter runs, `metrics.jsonl` of trainings,
//! labels and answers for a table of examples, and writes SVG, PNG, Markdown and one HTML page that
//! needs no other file. The charts themselves take plain values, so they can be drawn from anywhere. What is
//! shown was measured by earlier stages; a number that is missing there is missing here.
//!
//! The SVG text asks the viewer for a sans-serif font; the PNG is drawn with a font that is part of
//! the program, so it looks the same on a machine without fonts. That font knows Latin, Greek and
//! Cyrillic; other scripts show in the SVG only.

mod axis;
mod bars;
mod bins;
mod calibration;
mod comparison;
mod contents;
mod curve;
mod document;
mod drawings;
mod entropy_bins;
mod examples;
mod figure;
mod files;
mod heading;
mod heat_map;
mod html;
mod loop_curve;
mod loop_tables;
mod loss;
mod markdown;
mod methods;
mod overview;
mod page;
mod panels;
mod png;
mod published_bars;
mod recipe;
mod run;
mod run_names;
mod served;
mod stack;
mod svg;
mod table;
mod text;
mod training;
mod trust;
mod weak;
mod words;

pub use bars::{Bar, BarChart, accuracy_bars};
pub use calibration::{CalibrationChart, calibration_diagram};
pub use comparison::comparison_bars;
pub use curve::{SearchChart, search_curve};
pub use document::markdown_cell;
pub use entropy_bins::{EntropyChart, entropy_bars};
pub use figure::write_figure;
pub use heat_map::{HeatMap, heat_map};
pub(crate) use html::inert_json;
pub use loop_curve::{LoopChart, LoopPoint, LoopRate, loop_curve};
pub use loss::{LossChart, LossPoint, loss_curve};
pub use markdown::{code_span, plain, yaml_scalar};
pub use page::{ReportInputs, ReportSummary, report, report_on};
pub use png::{render_pdf, render_png};
pub use published_bars::{PublishedBar, published_bars};
pub use recipe::RecipeResult;
pub use stack::stack;
pub use table::{aligned, or_dash};
