//! Whether what one version serves can take the place of what another one does.
//!
//! Clients go on with the senders and labels that they have. So each method must be where it was:
//! the new version serves the same, or a higher version of an interface that only has more methods.
//! It says what it is about the methods that the old version has, by a digest of their signatures.
//! Types are in there by name, so a version that is higher without a new method may have changed
//! them, and is refused.

use libipc::proto::init::SwapReason;
use libsys::service::{Served, Serving};

/// How far the interfaces may differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The new version must serve all that the old one does.
    Forward,
    /// It served before the old one did, which could take its place: only names must be the same.
    Back,
}

/// Returns whether the interfaces differ, if the new version can take the place of the old one.
pub(super) fn compare(
    old: &Serving,
    new: &Serving,
    direction: Direction,
) -> Result<bool, SwapReason> {
    if old.digest >> 32 != new.digest >> 32 {
        return Err(SwapReason::OtherInterface);
    }
    if old.digest == new.digest {
        return Ok(false);
    }
    if direction == Direction::Back {
        return Ok(true);
    }
    let pairs = || {
        let known = old
            .interfaces
            .iter()
            .filter(|old| **old != Served::default());
        known.map(|old| {
            let new = new.interfaces.iter().find(|new| new.id == old.id);
            (*old, new.copied().unwrap_or_default())
        })
    };
    let is_grown = |(old, new): &(Served, Served)| {
        old == new || (new.version > old.version && new.methods > old.methods)
    };
    let refused = |(old, new): (Served, Served)| SwapReason::OtherVersion {
        interface: old.id,
        old: old.version.into(),
        new: new.version.into(),
    };
    if let Some(pair) = pairs().find(|pair| !is_grown(pair)) {
        return Err(refused(pair));
    }
    if old.prefix != 0 && old.prefix == new.prefix {
        return Ok(true);
    }
    // One that says it is another version has changed a method; or it hides what it has changed.
    let changed = pairs().find(|(old, new)| old != new);
    Err(changed.map_or(SwapReason::OtherInterface, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn serving(digest: u64, version: u16, methods: u16, prefix: u64) -> Serving {
        let mut serving = Serving {
            digest,
            prefix,
            ..Serving::default()
        };
        serving.interfaces[0] = Served {
            id: 3,
            version,
            methods,
        };
        serving
    }

    #[test]
    fn only_the_same_and_what_was_added_to_can_take_the_place() {
        let old = serving(5 << 32 | 1, 2, 10, 77);
        let with = |new: &Serving| compare(&old, new, Direction::Forward);
        let other = |new| {
            Err(SwapReason::OtherVersion {
                interface: 3,
                old: 2,
                new,
            })
        };
        assert_eq!(with(&old), Ok(false));
        assert_eq!(with(&serving(5 << 32 | 2, 3, 11, 77)), Ok(true));
        // A method was changed, one was left out, only types were changed, an older version.
        assert_eq!(with(&serving(5 << 32 | 2, 3, 11, 78)), other(3));
        assert_eq!(with(&serving(5 << 32 | 2, 3, 9, 0)), other(3));
        assert_eq!(with(&serving(5 << 32 | 2, 3, 10, 77)), other(3));
        assert_eq!(with(&serving(5 << 32 | 2, 1, 10, 77)), other(1));
        // The same version with another hash, another name.
        let hidden = Err(SwapReason::OtherInterface);
        assert_eq!(with(&serving(5 << 32 | 2, 2, 10, 78)), hidden);
        assert_eq!(with(&serving(6 << 32 | 1, 2, 10, 77)), hidden);
    }

    #[test]
    fn what_could_be_replaced_can_come_back() {
        let old = serving(5 << 32 | 2, 3, 11, 78);
        let back = serving(5 << 32 | 1, 2, 10, 0);
        assert_eq!(compare(&old, &back, Direction::Back), Ok(true));
        let other = serving(6 << 32 | 1, 2, 10, 0);
        let refused = Err(SwapReason::OtherInterface);
        assert_eq!(compare(&old, &other, Direction::Back), refused);
    }
}
