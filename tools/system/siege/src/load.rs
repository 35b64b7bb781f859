//! The workloads by name.

/// First argument of a workload's program that only ends, with the exit code behind it.
pub const EXIT: &str = "exit";

/// A workload: a process that works while services are killed, and notices what goes wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Load {
    /// Fills, checks and frees memory; starts other programs and waits for them.
    Paging,
    /// Reads files of the disk and compares each block with its checksum.
    Disk,
    /// Works on files in memory and compares all that it sees with a model of its own.
    Tree,
    /// Does what shows when it is done twice or not at all.
    Once,
    /// Writes numbered lines to the terminal, which the host checks.
    Lines,
    /// Keeps thousands of files open, and reads on in each.
    Crowd,
    /// Does nothing, but without rest, and lets everyone else go first. Where a clock counts
    /// instructions and leaps over idle times, it leaps while the host reads the disk.
    Busy,
}

impl Load {
    /// All that have something to lose; the one that starts programs first, as it needs the most
    /// kernel memory.
    pub const ALL: [Load; 5] = [
        Load::Paging,
        Load::Disk,
        Load::Tree,
        Load::Once,
        Load::Lines,
    ];

    /// Returns its name.
    pub const fn name(self) -> &'static str {
        match self {
            Load::Paging => "paging",
            Load::Disk => "disk",
            Load::Tree => "tree",
            Load::Once => "once",
            Load::Lines => "lines",
            Load::Crowd => "crowd",
            Load::Busy => "busy",
        }
    }

    /// Returns the workload of a name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = Self::ALL.into_iter().chain([Load::Crowd, Load::Busy]);
        all.find(|load| load.name() == name)
    }
}

#[cfg(test)]
mod tests {
    use super::Load;

    #[test]
    fn names_are_unique() {
        for load in Load::ALL.into_iter().chain([Load::Crowd, Load::Busy]) {
            assert_eq!(Load::named(load.name()), Some(load));
        }
        assert_eq!(Load::named("x"), None);
    }
}
