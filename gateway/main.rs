//! The `portcullis` command.

use std::alloc::{GlobalAlloc, Layout};
use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Keeps mimalloc in the program: it is `malloc` itself (its feature `override`), and so what Rust allocates by.
#[used]
static MALLOC: unsafe fn(&MiMalloc, Layout) -> *mut u8 = <MiMalloc as GlobalAlloc>::alloc;

fn main() -> ExitCode {
    // With huge pages each of the allocator's many small areas holds 2 MiB or more of memory: a gateway at
    // rest 10 MiB. Where the kernel does not know the setting there is nothing to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    portcullis::cli::main()
}
