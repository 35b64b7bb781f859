//! Linker arguments of guest programs, for their build scripts.
//!
//! Each guest package calls one function of this crate from its `build.rs`. The linker script
//! comes from here and not from compiler flags, so that all guest packages are compiled with the
//! same flags and share their dependencies. On a host build (no `--cfg bare`) nothing is emitted.

use std::env;
use std::path::Path;

/// Links the package's binaries as Ring 3 programs: base 0x40_0000, entry `_start`.
pub fn user_program() {
    emit("user.ld");
}

/// Links the package's binary as the kernel: base 0xffff_ffff_8000_0000, entry `_start`.
pub fn kernel() {
    emit("kernel.ld");
}

/// Links the package's binary as the loader: base 1 MiB, PVH note and multiboot2 header.
pub fn loader() {
    emit("loader.ld");
}

fn emit(script: &str) {
    // `--cfg bare` reaches build scripts as this variable.
    if env::var_os("CARGO_CFG_BARE").is_none() {
        return;
    }
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join(script);
    println!("cargo:rerun-if-changed={}", script.display());
    // On the bare target rustc runs the linker itself, on the hosted one it goes through the C
    // compiler driver, which needs its own spelling.
    let is_bare_target = env::var("CARGO_CFG_TARGET_OS").is_ok_and(|os| os == "none");
    let fixed: &[&str] = if is_bare_target { &LINKER } else { &DRIVER };
    for argument in fixed {
        println!("cargo:rustc-link-arg-bins={argument}");
    }
    println!("cargo:rustc-link-arg-bins=-T{}", script.display());
}

const LINKER: [&str; 4] = [
    "--no-pie",
    "-zmax-page-size=4096",
    "--build-id=none",
    "--no-dynamic-linker",
];
const DRIVER: [&str; 6] = [
    "-nostdlib",
    "-nostartfiles",
    "-static",
    "-no-pie",
    "-Wl,-z,max-page-size=4096",
    "-Wl,--build-id=none",
];
