//! The `portcullis` command.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // With huge pages each of the allocator's many small areas holds 2 MiB or more of memory: a gateway at
    // rest 10 MiB. Where the kernel does not know the setting there is nothing to switch off.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
    portcullis::cli::main()
}
