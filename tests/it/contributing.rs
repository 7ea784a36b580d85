//! The list of where things go is true: every file is there and holds what it is said to hold.

use crate::common::project;

#[test]
fn the_places_that_contributors_are_sent_to_exist() {
    let text = std::fs::read_to_string(project().join(".github/CONTRIBUTING.md")).unwrap();
    let mut num = 0;
    for line in text.lines().filter(|line| line.starts_with("- ")) {
        let spans: Vec<&str> = line.split('`').skip(1).step_by(2).collect();
        let mut at = 0;
        while at < spans.len() {
            let is_path = |span: &&str| span.contains('/') && !span.contains(' ');
            if !is_path(&spans[at]) {
                at += 1;
                continue;
            }
            let path = project().join(spans[at]);
            assert!(path.exists(), "{} is not there: {line}", spans[at]);
            if let Some(what) = spans.get(at + 1).filter(|span| !is_path(span) && path.is_file()) {
                let code = std::fs::read_to_string(&path).unwrap();
                assert!(code.contains(*what), "{} has no `{what}`", spans[at]);
                num += 1;
            }
            at += 1;
        }
    }
    assert!(num >= 20, "{num} places");
}
