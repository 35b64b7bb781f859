//! What programs take all of that they can get.

/// A thing of which a program takes as much as it gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Greed {
    /// Frames, as memory objects: the memory manager refuses.
    Frames,
    /// Frames, by touching pages: the memory manager ends the program.
    Pages,
    /// Memory objects, as small as they are: the memory manager refuses.
    Objects,
    /// Places in its own table of handles: the kernel refuses, and servers cannot give it any.
    Handles,
    /// Open files of one session after the other, and sessions: the vfs refuses.
    Files,
}

impl Greed {
    /// All of them.
    pub const ALL: [Greed; 5] = [
        Greed::Frames,
        Greed::Pages,
        Greed::Objects,
        Greed::Handles,
        Greed::Files,
    ];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Greed::Frames => "frames",
            Greed::Pages => "pages",
            Greed::Objects => "objects",
            Greed::Handles => "handles",
            Greed::Files => "files",
        }
    }

    /// Returns the one of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|greed| greed.name() == name)
    }

    /// Returns the service that has to bear it.
    pub const fn service(self) -> &'static str {
        match self {
            Greed::Files => "vfs",
            _ => "memory-manager",
        }
    }
}

/// First argument of the workloads' program when it is greedy; what it takes and for how long it
/// keeps it, in ms, follow.
pub const HOARD: &str = "hoard";
/// Exit code of a program that was never refused anything.
pub const NEVER_REFUSED: i32 = 3;
/// Exit code of a program that got nothing after it had given all back.
pub const NOT_GIVEN_BACK: i32 = 4;

#[cfg(test)]
mod tests {
    use super::Greed;

    #[test]
    fn names_are_unique() {
        for greed in Greed::ALL {
            assert_eq!(Greed::named(greed.name()), Some(greed));
        }
        assert_eq!(Greed::named("x"), None);
    }
}
