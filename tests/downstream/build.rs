//! The one line that a program needs beside the dependency: where libtorch lies, for the loader.

fn main() {
    println!("cargo:rustc-link-arg=-Wl,-rpath,{}", std::env::var("DEP_W2S_LIBTORCH").unwrap());
}
