//! Tells the linker where libtorch lies, so that the programs start without `LD_LIBRARY_PATH`, and
//! compiles what tch lacks of it.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=scripts/build.rs");
    // torch-sys publishes the folder it linked against because it is a direct dependency.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo:rustc-env=W2S_LIBTORCH_VERSION=unknown");
        println!("cargo:warning=torch-sys did not say where libtorch lies; run scripts/setup");
        return;
    };
    let lib = Path::new(&lib).canonicalize().unwrap_or_else(|_| lib.clone().into());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
    // For the build script of a crate that uses this one: `DEP_W2S_LIBTORCH`.
    println!("cargo:libtorch={}", lib.display());
    println!("cargo:rustc-env=W2S_LIBTORCH_VERSION={}", version(&lib));
    commit();
    compile(&lib);
}

/// Compiles `src/native` against the headers of the libtorch in `lib`.
fn compile(lib: &Path) {
    println!("cargo:rerun-if-changed=src/native");
    let include = lib.join("../include");
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .include("src/native/gloo_headers")
        .flag("-isystem")
        .flag(include.display().to_string())
        .flag("-isystem")
        .flag(include.join("torch/csrc/api/include").display().to_string())
        .files(
            ["adamw", "attention", "device", "group", "nccl", "operations"]
                .map(|name| format!("src/native/{name}.cpp")),
        )
        .compile("w2s_native");
}

/// Tells the program the commit it is built from, where there is one to tell. Only of builds that are used:
/// others would be made anew after each commit.
fn commit() {
    if std::env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let git = |args: &[&str]| {
        let output = std::process::Command::new("git").args(args).output().ok()?;
        let text = String::from_utf8(output.stdout).ok().filter(|_| output.status.success())?;
        Some(text.trim().to_owned())
    };
    // A copy of the sources inside another project has that project's commit, which is not ours.
    let prefix = git(&["rev-parse", "--show-prefix"]);
    if let (Some(""), Some(commit)) = (prefix.as_deref(), git(&["rev-parse", "--short=12", "HEAD"]))
    {
        println!("cargo:rustc-env=W2S_COMMIT={commit}");
    }
    let branch = git(&["rev-parse", "--symbolic-full-name", "HEAD"]).unwrap_or_default();
    for name in ["HEAD", branch.as_str()].into_iter().filter(|name| !name.is_empty()) {
        // What is not there would be taken for changed each time.
        if let Some(path) =
            git(&["rev-parse", "--git-path", name]).filter(|path| Path::new(path).exists())
        {
            println!("cargo:rerun-if-changed={path}");
        }
    }
}

/// The version of the libtorch in `lib`: from `build-version` beside it (libtorch), or from
/// `version.py` (a Python installation).
fn version(lib: &Path) -> String {
    let read = |name: &str| std::fs::read_to_string(lib.join("..").join(name)).ok();
    if let Some(text) = read("build-version") {
        return text.trim().to_owned();
    }
    let text = read("version.py").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("__version__ = "));
    line.map_or_else(|| "unknown".to_owned(), |value| value.trim_matches(['\'', '"']).to_owned())
}
