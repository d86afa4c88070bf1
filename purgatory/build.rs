//! Links the image by its own script, without libc, so that it runs wherever the kernel was put.

fn main() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/purgatory.ld");
    println!("cargo::rerun-if-changed={script}");
    println!("cargo::rustc-link-arg-bins=-Wl,-T,{script}");
    for arg in [
        "-nostartfiles",
        "-nostdlib",
        "-static-pie",
        "-Wl,--build-id=none,--no-dynamic-linker,-z,norelro,-z,noexecstack,--hash-style=sysv",
    ] {
        println!("cargo::rustc-link-arg-bins={arg}");
    }
}
