//! File descriptors: when the process, or the machine, has none left, nobody at the other end is at fault.

use std::io;

use rustix::io::Errno;

/// Whether something failed because there was no file descriptor left.
pub fn are_out(error: &io::Error) -> bool {
    matches!(
        Errno::from_io_error(error),
        Some(Errno::MFILE | Errno::NFILE)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_want_of_descriptors_is_told_from_other_faults() {
        for (errno, expected) in [
            (Errno::MFILE, true),
            (Errno::NFILE, true),
            (Errno::CONNREFUSED, false),
            (Errno::NOMEM, false),
        ] {
            let error = io::Error::from_raw_os_error(errno.raw_os_error());
            assert_eq!(are_out(&error), expected, "{errno}");
        }
        assert!(!are_out(&io::ErrorKind::NotFound.into()));
    }
}
