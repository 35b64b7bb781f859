//! Checks of ranges that come from programs.

use skink_abi::layout::USER_END;
use skink_abi::{Error, MapFlags, PAGE_SIZE};

/// A page-aligned, non-empty range that lies wholly in user space.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserRange {
    start: u64,
    pages: u64,
}

impl UserRange {
    /// Checks a range of pages.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for a misaligned or empty range or one that leaves user space.
    pub const fn new(start: u64, pages: u64) -> Result<UserRange, Error> {
        if pages == 0 || !start.is_multiple_of(PAGE_SIZE as u64) {
            return Err(Error::InvalidArgument);
        }
        let Some(bytes) = pages.checked_mul(PAGE_SIZE as u64) else {
            return Err(Error::InvalidArgument);
        };
        match start.checked_add(bytes) {
            Some(end) if end <= USER_END => Ok(UserRange { start, pages }),
            _ => Err(Error::InvalidArgument),
        }
    }

    /// Returns the first address.
    pub const fn start(self) -> u64 {
        self.start
    }

    /// Returns the number of pages.
    pub const fn pages(self) -> u64 {
        self.pages
    }

    /// Returns the first address behind the range.
    pub const fn end(self) -> u64 {
        self.start + self.pages * PAGE_SIZE as u64
    }
}

/// Checks that `bytes` bytes from `address` lie in user space.
///
/// # Errors
///
/// `BadAddress`.
pub const fn user_bytes(address: u64, bytes: u64) -> Result<(), Error> {
    match address.checked_add(bytes) {
        Some(end) if end <= USER_END => Ok(()),
        _ => Err(Error::BadAddress),
    }
}

/// Checks that `pages` pages from `first` lie within an object of `total` pages.
///
/// # Errors
///
/// `InvalidArgument`.
pub const fn within(first: u64, pages: u64, total: u64) -> Result<(), Error> {
    match first.checked_add(pages) {
        Some(end) if pages > 0 && end <= total => Ok(()),
        _ => Err(Error::InvalidArgument),
    }
}

/// Checks that no page can be both written and executed (W^X).
///
/// # Errors
///
/// `InvalidArgument` for both, and for unknown flags.
pub const fn write_xor_execute(flags: MapFlags) -> Result<(), Error> {
    let both = flags.contains(MapFlags::WRITE) && flags.contains(MapFlags::EXECUTE);
    if both || flags.0 > 31 {
        Err(Error::InvalidArgument)
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use skink_abi::layout::USER_END;
    use skink_abi::{Error, MapFlags};

    use super::{UserRange, user_bytes, within, write_xor_execute};

    #[test]
    fn edges_of_user_space() {
        assert!(UserRange::new(0, 1).is_ok());
        assert!(UserRange::new(USER_END - 4096, 1).is_ok());
        for (start, pages) in [
            (USER_END, 1),
            (USER_END - 4096, 2),
            (4095, 1),
            (0, 0),
            (4096, u64::MAX),
            (!0xfff, 1),
        ] {
            assert_eq!(UserRange::new(start, pages), Err(Error::InvalidArgument));
        }
        assert!(user_bytes(USER_END - 8, 8).is_ok());
        assert_eq!(user_bytes(USER_END - 8, 9), Err(Error::BadAddress));
        assert_eq!(user_bytes(u64::MAX, 2), Err(Error::BadAddress));
    }

    #[test]
    fn written_pages_are_never_executed() {
        assert!(write_xor_execute(MapFlags::READ | MapFlags::EXECUTE).is_ok());
        assert!(write_xor_execute(MapFlags::READ | MapFlags::WRITE).is_ok());
        assert!(write_xor_execute(MapFlags::WRITE | MapFlags::EXECUTE).is_err());
        assert!(write_xor_execute(MapFlags(1 << 9)).is_err());
    }

    proptest! {
        #[test]
        fn ranges_that_pass_stay_in_user_space(start: u64, pages: u64) {
            if let Ok(range) = UserRange::new(start, pages) {
                prop_assert!(range.end() <= USER_END);
                prop_assert!(range.start() < range.end());
            }
        }

        #[test]
        fn parts_that_pass_lie_within(first: u64, pages: u64, total: u64) {
            if within(first, pages, total).is_ok() {
                prop_assert!(u128::from(first) + u128::from(pages) <= u128::from(total));
            }
        }
    }
}
