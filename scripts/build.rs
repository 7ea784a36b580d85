//! Tells the linker where libtorch lies, so that the programs start without `LD_LIBRARY_PATH`.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=scripts/build.rs");
    // torch-sys publishes the folder it linked against because it is a direct dependency.
    println!("cargo:rerun-if-env-changed=DEP_TCH_LIBTORCH_LIB");
    let Ok(lib) = std::env::var("DEP_TCH_LIBTORCH_LIB") else {
        println!("cargo:warning=torch-sys did not say where libtorch lies; run scripts/setup");
        return;
    };
    let lib = Path::new(&lib).canonicalize().unwrap_or_else(|_| lib.clone().into());
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", lib.display());
}
