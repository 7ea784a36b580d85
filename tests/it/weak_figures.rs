//! The figures of filter runs: what they say, and that nothing in them meets.

use resvg::usvg::roxmltree;
use w2s::eval::{EntropyBin, ReliabilityMap, WeakAccuracy, WeightCell, Z_95, wilson};
use w2s::report::{EntropyChart, HeatMap, entropy_bars, heat_map, render_png};

use crate::figures::{check_layout, texts};

fn bin(range: (f64, f64), right: usize, wrong: usize, unparsed: usize, kept: usize) -> EntropyBin {
    let num_questions = right + wrong + unparsed;
    let (wilson_low, wilson_high) = wilson(right, num_questions, Z_95);
    EntropyBin {
        low_nats: range.0,
        high_nats: range.1,
        num_kept: kept,
        num_wrong: wrong,
        labels: WeakAccuracy {
            num_questions,
            num_right: right,
            num_unparsed: unparsed,
            accuracy: (num_questions > 0).then(|| right as f64 / num_questions as f64),
            wilson_low,
            wilson_high,
        },
    }
}

/// The bins of five votes, of which the first three are kept.
fn votes() -> Vec<EntropyBin> {
    [
        (0.0, 380, 20, 0, 400),
        (0.5004, 120, 60, 0, 180),
        (0.6730, 90, 93, 0, 183),
        (0.9503, 50, 70, 2, 0),
        (1.0549, 40, 77, 3, 0),
        (1.3322, 20, 53, 6, 0),
        (1.6094, 2, 7, 4, 0),
    ]
    .map(|(entropy, right, wrong, unparsed, kept)| {
        bin((entropy, entropy), right, wrong, unparsed, kept)
    })
    .to_vec()
}

fn chart(bins: Vec<EntropyBin>) -> EntropyChart {
    EntropyChart { title: "Weak labels by entropy: hellaswag, tiny".to_owned(), bins }
}

fn map(labels: &[&str], cell: impl Fn(usize, usize) -> (usize, f64)) -> HeatMap {
    let num = labels.len();
    let weight = |(num_rows, weight): (usize, f64)| WeightCell {
        num_rows,
        mean_weight: (num_rows > 0).then_some(weight),
    };
    let cells = (0..num)
        .map(|truth| (0..=num).map(|answer| weight(cell(truth, answer))).collect())
        .collect();
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    HeatMap {
        title: "Reliability of answers: t, m".to_owned(),
        map: ReliabilityMap { labels, cells },
    }
}

fn says(svg: &str, expected: &[&str]) {
    let said = texts(svg);
    for text in expected {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }
}

#[test]
fn entropy_bars_say_the_numbers() {
    let svg = entropy_bars(&chart(votes()));
    says(&svg, &["95.0%", "66.7%", "49.2%", "41.0%", "15.4%"]);
    says(&svg, &["0", "0.500", "0.673", "0.950", "1.055", "1.332", "1.609", "n = 400"]);
    says(&svg, &["right", "wrong", "could not be read", "kept", "dropped"]);
    says(&svg, &["n = 1,097, 763 kept; accuracy with 95% Wilson intervals", "[92, 97]"]);

    // Within a bin there is no line to draw; all or nothing kept needs none.
    let mut bins = votes();
    bins[2].num_kept = 1;
    let said = texts(&entropy_bars(&chart(bins.clone())));
    assert!(!said.iter().any(|text| text == "dropped"));
    for text in ["kept 100%", "kept 1%", "kept 0%"] {
        assert!(said.iter().any(|said| said == text), "`{text}` is missing in {said:?}");
    }
    for all in [true, false] {
        for bin in &mut bins {
            bin.num_kept = if all { bin.labels.num_questions } else { 0 };
        }
        let said = texts(&entropy_bars(&chart(bins.clone())));
        assert!(!said.iter().any(|text| text == "dropped" || text.starts_with("kept")));
        assert!(said.iter().any(|text| text.contains(if all { "all kept" } else { "none kept" })));
    }
    // Ranges, with as many decimals as it takes.
    let bins = vec![bin((0.0, 0.0001), 3, 1, 0, 4), bin((0.0001, 0.0002), 3, 1, 0, 0)];
    let svg = entropy_bars(&chart(bins));
    says(&svg, &["0 to 0.0001", "0.0001 to 0.0002"]);
    assert!(!texts(&svg).iter().any(|text| text == "could not be read"));
}

#[test]
fn the_parts_of_a_bar_are_its_counts() {
    let svg =
        entropy_bars(&chart(vec![bin((0.0, 0.0), 50, 30, 20, 100), bin((0.5, 0.5), 25, 0, 0, 0)]));
    let document = roxmltree::Document::parse(&svg).expect("well-formed");
    let number = |node: &roxmltree::Node, name: &str| {
        node.attribute(name).and_then(|text| text.parse::<f64>().ok()).expect("a number")
    };
    let parts: Vec<_> = document
        .descendants()
        .filter(|node| node.has_tag_name("rect") && number(node, "height") > 11.0)
        .filter(|node| node.first_element_child().is_some())
        .collect();
    let heights: Vec<f64> = parts.iter().map(|node| number(node, "height")).collect();
    let unit = heights[0] / 50.0;
    assert_eq!(heights, [50.0, 30.0, 20.0, 25.0].map(|num| num * unit));
    // Each part ends where the next begins, right at the bottom.
    for two in parts[..3].windows(2) {
        assert_eq!(number(&two[0], "y"), number(&two[1], "y") + number(&two[1], "height"));
    }
    let line = document.descendants().find(|node| node.has_attribute("stroke-dasharray"));
    let x = number(&line.expect("a line between kept and dropped"), "x1");
    let end = number(&parts[0], "x") + number(&parts[0], "width");
    assert!(end < x && x < number(&parts[3], "x"));
}

#[test]
fn entropy_texts_keep_apart() {
    let long = "A title that is far too long to stand in one line above so few bars".to_owned();
    let many = |num: usize, soft: bool| -> Vec<EntropyBin> {
        (0..num)
            .map(|i| {
                let low = i as f64 * 0.2;
                let high = if soft { low + 0.1 } else { low };
                bin(
                    (low, high),
                    12_000 - i * 1000,
                    i * 4000,
                    i * 30,
                    if i < 1 { 12_000 } else { 0 },
                )
            })
            .collect()
    };
    for num in 0..=12 {
        for soft in [true, false] {
            check_layout(&entropy_bars(&EntropyChart {
                title: long.clone(),
                bins: many(num, soft),
            }));
            let mut bins = many(num, soft);
            bins.iter_mut().for_each(|bin| bin.num_kept = 1);
            check_layout(&entropy_bars(&chart(bins)));
        }
    }
    check_layout(&entropy_bars(&chart(votes())));
    let huge = vec![bin((0.0, 0.0), 1_234_567, 123_456, 0, 0), bin((0.9, 0.9), 0, 0, 3, 0)];
    check_layout(&entropy_bars(&chart(huge)));
}

#[test]
fn the_heat_map_says_weights_and_counts() {
    let weights = |truth: usize, answer: usize| match (truth, answer) {
        (0, 1) => (0, 0.0),
        (truth, answer) if truth == answer => (1234, 0.905),
        (_, 2) => (12, 0.0),
        _ => (45_678, 0.25),
    };
    let svg = heat_map(&map(&["no", "yes"], weights));
    says(&svg, &["0.91", "1,234", "0.25", "45.7k", "\u{2013}", "0.00", "12", "none", "truth"]);
    says(&svg, &["weak answer", "0.0", "1.0"]);
    let description = roxmltree::Document::parse(&svg).expect("well-formed");
    let description = description.descendants().find(|node| node.has_tag_name("desc"));
    let said = description.and_then(|node| node.text()).expect("a description").to_owned();
    assert!(said.contains("truth no: no 0.905 (1234 answers), yes no such answer"), "{said}");

    // Without unread answers there is no column for them; weights may go beyond 1.
    let svg = heat_map(&map(&["no", "yes"], |truth, answer| match answer {
        2 => (0, 0.0),
        _ => (5, if truth == answer { 12.5 } else { -3.0 }),
    }));
    says(&svg, &["12.5", "\u{2212}3.0", "10"]);
    assert!(!texts(&svg).iter().any(|text| text == "none"));
    // Right answers are outlined: a path each.
    assert_eq!(svg.matches("<path").count(), 2);
}

/// Light where little, dark where much, from the one end of the scale to the other.
#[test]
fn colours_follow_the_weights() {
    let svg = heat_map(&map(&["a", "b"], |truth, answer| (7, (truth * 3 + answer) as f64 / 5.0)));
    let document = roxmltree::Document::parse(&svg).expect("well-formed");
    let brightness = |node: roxmltree::Node| {
        let fill = node.attribute("fill").expect("a colour");
        let part = |from: usize| u32::from_str_radix(&fill[from..from + 2], 16).expect("a number");
        part(1) + part(3) + part(5)
    };
    let cells: Vec<u32> = document
        .descendants()
        .filter(|node| node.has_tag_name("rect") && node.first_element_child().is_some())
        .map(brightness)
        .collect();
    assert_eq!(cells.len(), 6);
    assert!(cells.windows(2).all(|two| two[0] > two[1]), "{cells:?}");
    let stops: Vec<&str> =
        document.descendants().filter_map(|node| node.attribute("stop-color")).collect();
    assert!(svg.contains(&format!("fill=\"{}\"", stops[0])), "the weight 0 is the scale's start");
    assert!(svg.contains(&format!("fill=\"{}\"", stops[4])), "the weight 1 is the scale's end");
}

#[test]
fn heat_map_texts_keep_apart() {
    let letters: Vec<String> = ('A'..='Z').map(|letter| letter.to_string()).collect();
    let long: Vec<String> =
        letters.iter().map(|letter| format!("{letter} with_quite-some more words")).collect();
    for names in [&letters, &long] {
        for num in [1, 2, 3, 4, 5, 6, 8, 12, 26] {
            let names: Vec<&str> = names[..num].iter().map(String::as_str).collect();
            for scale in [1.0, 250.0] {
                check_layout(&heat_map(&map(&names, |truth, answer| {
                    let num_rows = if truth == 1 { 0 } else { 37 * truth * answer * answer };
                    (num_rows, scale * ((truth + answer) % 11) as f64 / 10.0)
                })));
            }
        }
    }
    check_layout(&heat_map(&map(&["Donaudampfschifffahrtsgesellschaft", "W"], |_, _| (1, 1.0))));
}

#[test]
fn hostile_names_are_text() {
    let name = "<b>&\"x\"</text> 'y' \u{1}";
    let mut bins = votes();
    bins[0].labels.accuracy = None;
    let entropy = EntropyChart { title: name.to_owned(), bins };
    let mut heat = map(&[name, ""], |_, _| (1, 0.5));
    heat.title = name.to_owned();
    for svg in [entropy_bars(&entropy), heat_map(&heat)] {
        let document = roxmltree::Document::parse(&svg).expect("well-formed");
        assert_eq!(document.root_element().attribute("role"), Some("img"));
        assert!(texts(&svg).iter().any(|text| text.starts_with("<b>&\"x\"</text>")));
        assert!(!svg.contains("NaN"));
        render_png(&svg, 1.0).expect("a picture");
    }
    assert_eq!(heat_map(&heat), heat_map(&heat.clone()), "same chart, same bytes");
}
