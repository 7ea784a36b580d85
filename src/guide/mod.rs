//! The guide: what `w2s` does and how it is used, a page a topic. `w2s guide TOPIC` prints the same.

/// A page of the guide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Topic {
    /// What it is asked for by.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The page, as Markdown.
    pub text: &'static str,
}

macro_rules! topics {
    ($($name:ident, $file:literal, $about:literal;)+) => {
        $(
            #[doc = include_str!($file)]
            pub mod $name {}
        )+

        /// All pages, in the order in which a newcomer may read them.
        pub const TOPICS: &[Topic] = &[
            $(Topic { name: stringify!($name), about: $about, text: include_str!($file) },)+
        ];
    };
}

topics! {
    label, "label.md", "label data without supervision; what a run leaves; baselines";
    tasks, "../../data/tasks/README.md", "write a task file";
    search, "search.md", "how the search works, and what can be set";
    filter, "filter.md", "keep the weak labels that agree across prompt variants";
    train, "train.md", "fine-tune a student on labels and weights";
    loop_, "loop.md", "label, train, label again";
    evaluate, "evaluate.md", "accuracy, intervals, comparisons, performance gap recovered";
    audit, "audit.md", "a guarantee for labels from a few rows that you answer";
    report, "report.md", "figures and the page";
    reproduce, "reproduce.md", "the papers' experiments, from data to figure";
    presets, "presets.md", "the published codes and what differs";
    servers, "servers.md", "models behind servers; export to other trainers";
    runs, "runs.md", "find and compare run folders; threads";
    gpu, "gpu.md", "GPUs";
    library, "library.md", "use it from Rust";
}

/// Returns the page of a name; an underscore at its end may be left out.
pub fn topic(name: &str) -> Option<&'static Topic> {
    let bare = |name: &'static str| name.trim_end_matches('_');
    TOPICS.iter().find(|topic| bare(topic.name) == name.trim_end_matches('_'))
}
