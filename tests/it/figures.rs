//! The figures: what they say, that they are well-formed, and what fails.

use std::fs;

use resvg::tiny_skia::Pixmap;
use resvg::usvg::{self, Node, Tree, fontdb, roxmltree};
use w2s::error::ErrorKind;
use w2s::eval::CurvePoint;
use w2s::report::{
    Bar, BarChart, SearchChart, accuracy_bars, render_png, search_curve, write_figure,
};

const LONG_NAMES: [&str; 8] = [
    "zero-shot",
    "few-shot with 8 demonstrations drawn at random from gold",
    "bootstrapped_few_shot_without_any_space_in_its_name",
    "random-label few-shot",
    "ICM (seed-0)",
    "Donaudampfschifffahrtsgesellschaftskapitaensmuetze",
    "ICM, alpha 50, halving with 4 anchors, batch calibration, exponential cooling and more",
    "WWWWWWWWWW MMMMMMMMMMMM",
];

fn bar(name: &str, accuracy: f64, num_examples: usize) -> Bar {
    let (low, high) = ((accuracy - 0.1).max(0.0), (accuracy + 0.06).min(1.0));
    Bar { name: name.to_owned(), accuracy, low, high, num_examples, emphasis: false }
}

fn bar_chart(num_bars: usize, same_n: bool) -> BarChart {
    let accuracies = [0.5, 0.0, 1.0, 0.44, 0.906, 0.31, 0.94, 0.5];
    let bars = (0..num_bars).map(|index| {
        let count = if same_n { 32 } else { 32 + 500 * index };
        bar(LONG_NAMES[index], accuracies[index], count)
    });
    let title = "A title that is far too long to stand in one line above so few bars".to_owned();
    BarChart { title, num_labels: Some(2), bars: bars.collect() }
}

fn points(num_batches: usize, length: usize, score: impl Fn(usize) -> f64) -> Vec<CurvePoint> {
    let point = |batch: usize, iteration: usize| CurvePoint {
        batch,
        iteration,
        step: batch * (length - 1) + iteration,
        score: score(iteration),
        accuracy: Some(0.5 + 0.4 * iteration as f64 / length as f64),
        num_labelled: 8 + iteration,
        share: vec![0.25, 0.75],
    };
    (0..num_batches)
        .flat_map(|batch| (0..length).map(move |i| (batch, i)))
        .map(|(b, i)| point(b, i))
        .collect()
}

fn search_chart(num_batches: usize, length: usize, score: fn(usize) -> f64) -> SearchChart {
    SearchChart {
        title: "Search: polarity, tiny".to_owned(),
        points: points(num_batches, length, score),
        share_of: Some((1, "a label with quite a long name".to_owned())),
        best_constant: Some((
            "a label with quite a long name".to_owned(),
            score(length - 1) - 0.01,
        )),
    }
}

/// The texts of a figure, as a reader gets them.
pub fn texts(svg: &str) -> Vec<String> {
    let document = roxmltree::Document::parse(svg).expect("well-formed");
    let of =
        |node: roxmltree::Node| node.has_tag_name("text").then(|| node.text().map(str::to_owned));
    document.descendants().filter_map(of).flatten().collect()
}

fn rendered(svg: &str) -> Tree {
    let mut fonts = fontdb::Database::new();
    fonts.load_font_data(notosans::REGULAR_TTF.to_vec());
    fonts.load_font_data(notosans::BOLD_TTF.to_vec());
    fonts.set_sans_serif_family("Noto Sans");
    let options = usvg::Options { fontdb: fonts.into(), ..usvg::Options::default() };
    Tree::from_str(svg, &options).expect("a figure")
}

/// No two texts of the figure come nearer than a unit, and none leaves it.
pub fn check_layout(svg: &str) {
    let tree = rendered(svg);
    let text = |node: &Node| match node {
        Node::Text(text) => {
            let words = text.chunks().iter().map(|chunk| chunk.text()).collect::<String>();
            Some((words, text.flattened().abs_bounding_box()))
        }
        _ => None,
    };
    let boxes: Vec<_> = tree.root().children().iter().filter_map(text).collect();
    assert!(boxes.len() >= 3);
    for (index, (words, place)) in boxes.iter().enumerate() {
        let inside = place.left() >= 0.0
            && place.top() >= 0.0
            && place.right() <= tree.size().width()
            && place.bottom() <= tree.size().height();
        assert!(inside, "`{words}` leaves the figure: {place:?}");
        for (others, other) in &boxes[index + 1..] {
            let apart = place.right() + 1.0 <= other.left()
                || other.right() + 1.0 <= place.left()
                || place.bottom() + 1.0 <= other.top()
                || other.bottom() + 1.0 <= place.top();
            assert!(apart, "`{words}` and `{others}` meet: {place:?} {other:?}");
        }
    }
}

#[test]
fn bars_of_any_number_and_name_keep_apart() {
    for num_bars in 0..=8 {
        for same_n in [true, false] {
            check_layout(&accuracy_bars(&bar_chart(num_bars, same_n)));
        }
    }
}

#[test]
fn search_labels_keep_apart() {
    let scores: [fn(usize) -> f64; 4] = [
        |i| -40.0 + 0.1 * i as f64,
        |_| 0.0,
        |i| -123_456.0 + 1000.0 * i as f64,
        |i| 1e-4 * i as f64,
    ];
    for score in scores {
        for (num_batches, length) in [(1, 2), (1, 3), (5, 50), (40, 9), (200, 3), (1, 2001)] {
            check_layout(&search_curve(&search_chart(num_batches, length, score)));
        }
    }
    check_layout(&search_curve(&SearchChart { title: "Nothing".to_owned(), ..Default::default() }));
}

#[test]
fn bars_say_the_numbers() {
    let mut chart = BarChart {
        title: "polarity, tiny".to_owned(),
        num_labels: Some(2),
        bars: vec![bar("zero-shot", 0.5625, 32), bar("ICM", 0.90625, 32)],
    };
    chart.bars[1].low = 0.7578;
    chart.bars[1].high = 0.9676;
    let said = texts(&accuracy_bars(&chart));
    for text in ["polarity, tiny", "zero-shot", "ICM", "56.2", "90.6", "[76, 97]", "chance"] {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }
    assert!(said.iter().any(|said| said.starts_with("n = 32;")));

    // A narrow interval shows a decimal; different n stand below the names; no chance, no line.
    chart.bars[1] = Bar { low: 0.8924, high: 0.9180, ..bar("ICM", 0.906, 2000) };
    chart.num_labels = None;
    let said = texts(&accuracy_bars(&chart));
    for text in ["[89.2, 91.8]", "n = 32", "n = 2,000"] {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }
    assert!(!said.iter().any(|said| said == "chance"));
}

#[test]
fn bar_heights_are_the_rates() {
    let chart = BarChart {
        title: "t".to_owned(),
        num_labels: Some(4),
        bars: [0.0, 0.25, 0.5, 1.0].map(|rate| bar("x", rate, 10)).to_vec(),
    };
    let svg = accuracy_bars(&chart);
    let document = roxmltree::Document::parse(&svg).expect("well-formed");
    let number = |node: &roxmltree::Node, name: &str| {
        node.attribute(name).and_then(|text| text.parse::<f64>().ok()).expect("a number")
    };
    let rects: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("rect") && node.first_element_child().is_some())
        .collect();
    let heights: Vec<f64> = rects.iter().map(|node| number(node, "height")).collect();
    let full = heights[3];
    assert!(full > 100.0);
    assert_eq!(heights, [0.0, 0.25 * full, 0.5 * full, full]);
    let chance = document
        .descendants()
        .find(|node| node.has_attribute("stroke-dasharray"))
        .expect("a chance line");
    assert_eq!(number(&chance, "y1"), number(&rects[1], "y"));
}

#[test]
fn the_search_says_its_end() {
    let chart = SearchChart {
        share_of: Some((1, "True".to_owned())),
        best_constant: Some(("False".to_owned(), -31.2)),
        ..search_chart(3, 11, |i| -20.0 + i as f64 * 1.5)
    };
    let svg = search_curve(&chart);
    let said = texts(&svg);
    for text in [
        "score \u{2212}5.00",
        "if all False: \u{2212}31.20",
        "accuracy 86.4%",
        "75.0% are True",
        "54 examples labelled in 3 batches, 30 iterations",
        "batch 3",
        "score U",
        "iteration",
    ] {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }
    // Three quantities in three batches, two panels of two lines between batches.
    assert_eq!(svg.matches("<path").count(), 9);
}

#[test]
fn a_long_search_is_thinned_to_its_outline() {
    let mut chart = search_chart(1, 20_001, |i| if i == 7001 { 50.0 } else { (i % 2) as f64 });
    let svg = search_curve(&chart);
    assert!(svg.len() < 200_000, "{} bytes", svg.len());
    // The one outlier is still the highest place of the path.
    let path = |svg: &str| {
        let document = roxmltree::Document::parse(svg).expect("well-formed");
        let path = document.descendants().find(|node| node.has_tag_name("path"));
        path.and_then(|path| path.attribute("d")).expect("a path").to_owned()
    };
    let highest = |path: &str| {
        let falls_and_rises = path.split('V').skip(1).filter_map(|rest| rest.split('H').next());
        falls_and_rises.filter_map(|y| y.parse().ok()).fold(f64::INFINITY, f64::min)
    };
    let with = highest(&path(&svg));
    chart.points[7001].score = 0.0;
    chart.best_constant = Some((String::new(), 50.0));
    assert!(highest(&path(&search_curve(&chart))) > with + 50.0);
}

#[test]
fn unknown_accuracy_breaks_the_line_and_names_nothing() {
    let mut chart = search_chart(1, 9, |i| i as f64);
    chart.share_of = None;
    chart.points[4].accuracy = None;
    assert_eq!(search_curve(&chart).matches("<path").count(), 3);
    chart.points.iter_mut().for_each(|point| point.accuracy = None);
    let svg = search_curve(&chart);
    assert_eq!(svg.matches("<path").count(), 1);
    assert!(!texts(&svg).iter().any(|text| text.starts_with("accuracy ") && text.ends_with('%')));
}

#[test]
fn hostile_names_are_text() {
    let name = "<b>&\"x\"</text> 'y' \u{1}\u{7}";
    let shown = "<b>&\"x\"</text> 'y' \u{fffd}\u{fffd}";
    let bars = BarChart {
        title: name.to_owned(),
        num_labels: Some(2),
        bars: vec![bar(name, f64::NAN, 0), bar("", 2.0, 1)],
    };
    let mut search = search_chart(1, 3, |i| if i == 1 { f64::NAN } else { i as f64 });
    search.title = name.to_owned();
    search.share_of = Some((7, name.to_owned()));
    for svg in [accuracy_bars(&bars), search_curve(&search)] {
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        let root = document.root_element();
        assert_eq!(root.attribute("role"), Some("img"));
        assert!(root.has_attribute("viewBox"));
        let child = |tag| root.children().find(|node| node.has_tag_name(tag));
        assert_eq!(child("title").and_then(|node| node.text()), Some(shown));
        assert!(child("desc").and_then(|node| node.text()).is_some_and(|text| text.len() > 40));
        assert!(texts(&svg).iter().any(|text| text == shown));
        assert!(!svg.contains("NaN"), "{svg}");
        render_png(&svg, 1.0).expect("a picture");
    }
}

#[test]
fn pictures_are_twice_the_size_and_hold_ink() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let out = dir.path().join("new").join("figures");
    for (stem, svg) in [
        ("accuracy", accuracy_bars(&bar_chart(3, true))),
        ("search", search_curve(&search_chart(2, 30, |i| i as f64))),
    ] {
        let files = write_figure(&out, stem, &svg, Some(3.25)).expect("written");
        let names = ["svg", "pdf", "png"].map(|extension| out.join(format!("{stem}.{extension}")));
        assert_eq!(files, names);
        assert_eq!(fs::read_to_string(&files[0]).expect("the SVG"), svg);
        let bytes = fs::read(&files[2]).expect("the PNG");
        // A page of 3.25 inches, 234 points, as high as the figure asks, that needs no font.
        let pdf = fs::read(&files[1]).expect("the PDF");
        let text = String::from_utf8_lossy(&pdf);
        let (width, height) = (rendered(&svg).size().width(), rendered(&svg).size().height());
        let page = text.split("/MediaBox [").nth(1).and_then(|rest| rest.split(']').next());
        let page: Vec<f32> =
            page.unwrap().split_whitespace().map(|number| number.parse().unwrap()).collect();
        assert!((page[2] - 234.0).abs() < 0.01, "{page:?}");
        assert!((page[3] - 234.0 * height / width).abs() < 0.01, "{page:?}");
        assert!(text.starts_with("%PDF-") && !text.contains("/Font") && pdf.len() > 3000);
        let picture = Pixmap::decode_png(&bytes).expect("a PNG");
        let size = rendered(&svg).size();
        assert_eq!(picture.width(), (size.width() * 2.0).round() as u32);
        assert_eq!(picture.height(), (size.height() * 2.0).round() as u32);
        let colours = picture.pixels().iter().map(|p| (p.red(), p.green(), p.blue(), p.alpha()));
        assert!(colours.clone().all(|(.., alpha)| alpha == 255));
        let ink = colours.clone().filter(|&(r, g, b, _)| r < 255 || g < 255 || b < 255).count();
        assert!(ink * 100 > picture.pixels().len(), "{ink} pixels of ink");
        // Text was drawn: the title's row holds near-black, which no bar or line there has.
        let title = 2 * 12 * picture.width() as usize..2 * 28 * picture.width() as usize;
        let dark = picture.pixels()[title].iter().filter(|p| p.red() < 60 && p.blue() < 70).count();
        assert!(dark > 100, "{dark} dark pixels in the title");

        let again = write_figure(&out, stem, &svg, Some(3.25)).expect("written again");
        assert_eq!(fs::read(&again[2]).expect("the PNG"), bytes);
        assert!(fs::read(&again[1]).expect("the PDF") == pdf, "another PDF of the same figure");
    }
    let left: Vec<_> = fs::read_dir(&out).expect("the folder").collect();
    assert_eq!(left.len(), 6, "no temporary file stays: {left:?}");
    assert!(render_png("<svg", 2.0).is_err());
}

#[test]
fn same_chart_same_bytes() {
    assert_eq!(accuracy_bars(&bar_chart(8, false)), accuracy_bars(&bar_chart(8, false)));
    let chart = search_chart(4, 100, |i| (i as f64).sin());
    assert_eq!(search_curve(&chart), search_curve(&chart.clone()));
}

#[test]
fn a_figure_that_cannot_be_written_says_where() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("file");
    fs::write(&file, "x").expect("written");
    let error = write_figure(&file, "accuracy", &accuracy_bars(&bar_chart(1, true)), None)
        .expect_err("a file is not a folder");
    assert_eq!((error.kind(), error.place()), (ErrorKind::Io, Some((file.as_path(), None))));
}
