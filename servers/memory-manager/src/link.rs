//! Links of lists that live in tables of frames.

use crate::Frame;

/// A frame, or none. All-zero memory is "none", so that fresh tables need no set-up.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(transparent)]
pub(crate) struct Link(u32);

impl Link {
    /// The end of a list.
    pub(crate) const NONE: Link = Link(0);

    /// Links to a frame. Tables have fewer than `u32::MAX` frames, so the sum cannot overflow.
    pub(crate) const fn to(frame: Frame) -> Link {
        Link(frame + 1)
    }

    /// Returns the frame that this links to.
    pub(crate) const fn frame(self) -> Option<Frame> {
        self.0.checked_sub(1)
    }
}
