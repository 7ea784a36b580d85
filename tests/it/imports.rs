//! Who imports whom in `src`: modules in one direction, files in no circle.
//!
//! Every path of the code counts, in `use` lines or written out, and stands for the file that defines
//! what it names: re-exports are followed. Test modules and doc comments do not count.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use regex::Regex;
use syn::visit::{self, Visit};
use syn::{Attribute, ImplItemFn, Item, ItemFn, ItemMod, ItemUse, Macro, UseTree, Visibility};

use crate::common::project;

/// Files that import each other in a circle, below `src`. The list may only shrink.
const CIRCLES: &[&[&str]] = &[];

/// Modules that use one below them in the table of `src/lib.rs`, and that. The list may only shrink.
const UPWARDS: &[(&str, &str)] = &[];

/// Stages, which meet in files only. They and their exceptions; the list may only shrink.
const STAGES: [&str; 4] = ["label", "filter", "train", "eval"];
const BETWEEN_STAGES: &[(&str, &str)] = &[];

/// A path among the tokens of a macro.
static IN_MACRO: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(?-u:[A-Za-z_][A-Za-z0-9_]*(?: ?:: ?[A-Za-z_][A-Za-z0-9_]*)*)").unwrap()
});

/// The library, read once for all tests.
static LIBRARY: LazyLock<Crate> = LazyLock::new(|| Crate::open(&project().join("src")));

/// A path from the root of the crate: modules, then a name.
type Names = Vec<String>;

/// What one file says of others.
#[derive(Default)]
struct Source {
    /// Modules declared here that are files of their own.
    children: BTreeSet<String>,
    /// What the names that `use` lines bring in stand for.
    imports: HashMap<String, Names>,
    /// Every path of the code, from the root of the crate.
    paths: BTreeSet<Names>,
}

/// The files of a crate by their module's path.
struct Crate {
    sources: BTreeMap<Names, Source>,
}

fn names(path: &str) -> Names {
    path.split("::").filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Whether an item is compiled for tests alone.
fn is_test(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.path().is_ident("cfg")
            && attribute.parse_args::<syn::Path>().is_ok_and(|of| of.is_ident("test"))
    })
}

/// Reads one file.
struct Reader<'a> {
    module: &'a [String],
    source: Source,
}

impl Reader<'_> {
    /// From the root of the crate; none for another crate's path or a name of this file.
    fn absolute(&self, path: &[String]) -> Option<Names> {
        let (first, mut rest) = path.split_first()?;
        let mut from = match first.as_str() {
            // The program calls the library by its name.
            "crate" | "w2s" => Names::new(),
            "self" => self.module.to_vec(),
            "super" => {
                let mut from = self.module.split_last()?.1.to_vec();
                while let Some((_, after)) = rest.split_first().filter(|(next, _)| *next == "super")
                {
                    from.pop();
                    rest = after;
                }
                from
            }
            child if self.source.children.contains(child) => [self.module, &path[..1]].concat(),
            name => self.source.imports.get(name)?.clone(),
        };
        from.extend_from_slice(rest);
        Some(from)
    }

    fn take(&mut self, path: &[String]) {
        if let Some(path) = self.absolute(path) {
            self.source.paths.insert(path);
        }
    }

    fn import(&mut self, tree: &UseTree, before: &[String], exports: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (path, name) = match tree {
            UseTree::Path(path) => return self.import(&path.tree, &with(&path.ident), exports),
            UseTree::Group(group) => {
                return group.items.iter().for_each(|item| self.import(item, before, exports));
            }
            UseTree::Name(name) if name.ident == "self" => {
                (before.to_vec(), before.last().cloned().unwrap_or_default())
            }
            UseTree::Name(name) => (with(&name.ident), name.ident.to_string()),
            UseTree::Rename(name) => (with(&name.ident), name.rename.to_string()),
            UseTree::Glob(_) => (before.to_vec(), "*".to_owned()),
        };
        let Some(path) = self.absolute(&path) else { return };
        assert!(name != "*", "`{}::*` hides which file is meant", before.join("::"));
        // What is only handed on is used by whoever asks for it here.
        if !exports {
            self.source.paths.insert(path.clone());
        }
        self.source.imports.insert(name, path);
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item_use(&mut self, _: &'ast ItemUse) {}

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_item_mod(&mut self, module: &'ast ItemMod) {
        if !is_test(&module.attrs) {
            visit::visit_item_mod(self, module);
        }
    }

    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_item_fn(self, function);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !is_test(&function.attrs) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let words: Names = path.segments.iter().map(|word| word.ident.to_string()).collect();
        self.take(&words);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, of: &'ast Macro) {
        let tokens = of.tokens.to_string();
        let found: Vec<Names> = IN_MACRO
            .find_iter(&tokens)
            .map(|path| names(&path.as_str().replace(' ', "")))
            .collect();
        found.iter().for_each(|path| self.take(path));
    }
}

fn read(module: &[String], code: &str) -> Source {
    let file = syn::parse_file(code).unwrap();
    let mut reader = Reader { module, source: Source::default() };
    for item in &file.items {
        if let Item::Mod(ItemMod { ident, content: None, .. }) = item {
            reader.source.children.insert(ident.to_string());
        }
    }
    for item in &file.items {
        if let Item::Use(item) = item
            && !is_test(&item.attrs)
        {
            let exports = !matches!(item.vis, Visibility::Inherited);
            reader.import(&item.tree, &[], exports);
        }
    }
    reader.visit_file(&file);
    reader.source
}

impl Crate {
    /// Reads the files of a folder; `mod.rs` is the module itself, and `lib.rs` and `main.rs` together
    /// are the root, wherever the command line is declared.
    fn open(folder: &Path) -> Self {
        let mut sources: BTreeMap<Names, Source> = BTreeMap::new();
        let mut open = vec![(folder.to_owned(), Names::new())];
        while let Some((folder, module)) = open.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
                if path.is_dir() {
                    open.push((path, [module.clone(), vec![name]].concat()));
                } else if path.extension().is_some_and(|end| end == "rs") {
                    let is_folder = matches!(name.as_str(), "lib" | "main" | "mod");
                    let of = if is_folder {
                        module.clone()
                    } else {
                        [module.clone(), vec![name]].concat()
                    };
                    let source = read(&of, &fs::read_to_string(path).unwrap());
                    let whole = sources.entry(of).or_default();
                    whole.children.extend(source.children);
                    whole.imports.extend(source.imports);
                    whole.paths.extend(source.paths);
                }
            }
        }
        Self { sources }
    }

    /// The module whose file defines what a path names; none for the path of a module.
    fn home(&self, path: &[String]) -> Option<&Names> {
        let (mut module, mut rest) = (self.sources.get_key_value(&[][..])?, path);
        while let Some((name, after)) = rest.split_first() {
            let is_module = module.1.children.contains(name);
            // Modules have names of their own: `parse::parse` may be handed on as `parse`.
            if let Some(target) = module.1.imports.get(name)
                && (!is_module || after.is_empty())
            {
                return self.home(&[target, after].concat());
            }
            if !is_module {
                return Some(module.0);
            }
            module = self
                .sources
                .get_key_value(&[&module.0[..], std::slice::from_ref(name)].concat()[..])?;
            rest = after;
        }
        None
    }

    /// Which files each file imports from, itself not among them.
    fn imports(&self) -> BTreeMap<&Names, BTreeSet<&Names>> {
        let of = |(module, source): (_, &Source)| {
            let homes = source.paths.iter().filter_map(|path| self.home(path));
            (module, homes.filter(|home| *home != module).collect())
        };
        self.sources.iter().map(of).collect()
    }

    /// Which of the crate's modules each uses.
    fn modules(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut found: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (from, to) in self.imports() {
            let Some(from) = from.first() else { continue };
            let others = to.into_iter().filter_map(|to| to.first()).filter(|to| *to != from);
            found.entry(from).or_default().extend(others.map(String::as_str));
        }
        found
    }
}

/// Groups of which each member reaches every other, with more than one.
fn circles<N: Copy + Ord>(arrows: &BTreeMap<N, BTreeSet<N>>) -> BTreeSet<BTreeSet<N>> {
    let reached = |from: N| {
        let (mut seen, mut open) = (BTreeSet::new(), vec![from]);
        while let Some(next) = open.pop().and_then(|at| arrows.get(&at)) {
            open.extend(next.iter().filter(|to| seen.insert(**to)));
        }
        seen
    };
    let reach: BTreeMap<N, BTreeSet<N>> =
        arrows.keys().map(|from| (*from, reached(*from))).collect();
    let circle = |from: N| -> BTreeSet<N> {
        let back = |to: &&N| reach.get(to).is_some_and(|found| found.contains(&from));
        reach[&from].iter().filter(back).copied().collect()
    };
    arrows.keys().map(|from| circle(*from)).filter(|circle| circle.len() > 1).collect()
}

fn same<T: Ord + std::fmt::Debug>(found: BTreeSet<T>, stated: BTreeSet<T>, what: &str) {
    let new: Vec<&T> = found.difference(&stated).collect();
    let gone: Vec<&T> = stated.difference(&found).collect();
    assert!(new.is_empty(), "{what} that are not stated: {new:#?}");
    assert!(gone.is_empty(), "{what} that are no more, to be taken off the list: {gone:#?}");
}

#[test]
fn files_import_each_other_in_no_circle() {
    let mut inside = LIBRARY.imports();
    for (from, to) in &mut inside {
        to.retain(|to| to.first() == from.first());
    }
    let found = circles(&inside).into_iter();
    let found = found.map(|circle| circle.into_iter().map(|module| module.join("/")).collect());
    let stated = CIRCLES.iter().map(|circle| circle.iter().map(|&file| file.to_owned()).collect());
    same::<BTreeSet<String>>(found.collect(), stated.collect(), "circles");
}

#[test]
fn modules_use_only_those_above_them_in_the_table() {
    let table = fs::read_to_string(project().join("src/lib.rs")).unwrap();
    let row = Regex::new(r"(?m)^//! \| \[`(\w+)`\] \|").unwrap();
    let mut order: Vec<&str> =
        row.captures_iter(&table).map(|row| row.extract::<1>().1[0]).collect();
    if !order.contains(&"cli") {
        order.push("cli");
    }
    let uses = LIBRARY.modules();
    let listed: BTreeSet<&str> = order.iter().copied().collect();
    assert_eq!(
        listed,
        uses.keys().copied().collect(),
        "the table of `src/lib.rs`, and its modules"
    );
    let place = |module: &str| order.iter().position(|name| *name == module);
    let pairs = || uses.iter().flat_map(|(from, to)| to.iter().map(|to| (*from, *to)));
    let up = pairs().filter(|(from, to)| place(from) < place(to)).collect();
    same(up, UPWARDS.iter().copied().collect(), "uses of a module below");
    let between = |&(from, to): &(&str, &str)| STAGES.contains(&from) && STAGES.contains(&to);
    same(
        pairs().filter(between).collect(),
        BETWEEN_STAGES.iter().copied().collect(),
        "uses of a stage by a stage",
    );
}

/// `a` takes from `b` by a re-export and `b` from `a` in a macro, which is a circle; `c` only takes;
/// what tests and words name does not count.
#[test]
fn a_circle_through_a_re_export_and_a_macro_is_found() {
    let folder = tempfile::tempdir().unwrap();
    for (file, code) in [
        ("lib.rs", "pub mod m; pub mod n;"),
        ("m/mod.rs", "mod a; mod b; mod c; pub use a::{A, a}; pub use b::B as Renamed;"),
        ("m/a.rs", "use crate::m::Renamed; pub struct A; pub fn a(_: Renamed) {}"),
        ("m/b.rs", "pub struct B; fn f() { println!(\"{:?}\", super::a::a as usize); }"),
        (
            "m/c.rs",
            "use super::{A, a}; pub struct C; impl C { fn a(_: A) { a(todo!()) } }\
             \n#[cfg(test)] mod tests { use crate::n::N; }",
        ),
        (
            "n.rs",
            "//! Not [`crate::m::A`].\npub struct N; fn f() { let _ = \"crate::m::A\"; }\
             \n#[cfg(test)] fn g(_: crate::m::A) {}",
        ),
    ] {
        let path = folder.path().join(file);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, code).unwrap();
    }
    let found = Crate::open(folder.path());
    let (a, b, c) = (names("m::a"), names("m::b"), names("m::c"));
    let imports = found.imports();
    assert_eq!(imports[&a], BTreeSet::from([&b]));
    assert_eq!(imports[&b], BTreeSet::from([&a]));
    assert_eq!(imports[&c], BTreeSet::from([&a]));
    assert_eq!(circles(&imports), BTreeSet::from([BTreeSet::from([&a, &b])]));
    assert_eq!(found.modules(), BTreeMap::from([("m", BTreeSet::new()), ("n", BTreeSet::new())]));
}
