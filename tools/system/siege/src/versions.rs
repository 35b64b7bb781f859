//! The versions in the boot bundle (`tests/versions`) to which services are swapped.

/// A version of a service.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Version {
    /// The service, whose name is that of its first version too.
    pub service: &'static str,
    /// Name of the image.
    pub image: &'static str,
    /// What must come of a swap to it.
    pub end: End,
}

/// What must come of a swap.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// The version serves, until it is swapped back.
    Serves,
    /// It is rolled back, and the old instance serves on.
    RolledBack,
    /// It takes over, crashes, and the version before comes back.
    Escalates,
}

/// Versions that work.
pub const SOUND: [Version; 3] = [
    sound("block", "block-2"),
    sound("vfs", "vfs-2"),
    sound("virtio-blk", "virtio-blk-2"),
];

/// Versions that cannot take over, for each phase of a swap in which that can show.
pub const BROKEN: [Version; 9] = [
    broken("broken-crash", End::RolledBack),
    broken("broken-hang", End::RolledBack),
    broken("broken-interface", End::RolledBack),
    broken("broken-version", End::RolledBack),
    broken("broken-schema", End::RolledBack),
    broken("broken-migration", End::RolledBack),
    broken("broken-test", End::RolledBack),
    broken("broken-test-hang", End::RolledBack),
    broken("broken-commit", End::Escalates),
];

impl Version {
    /// Returns the image to swap to while another one runs: a version that works is swapped back
    /// when it runs already.
    pub fn next(&self, running: &str) -> &'static str {
        if running == self.image {
            self.service
        } else {
            self.image
        }
    }
}

const fn sound(service: &'static str, image: &'static str) -> Version {
    Version {
        service,
        image,
        end: End::Serves,
    }
}

const fn broken(image: &'static str, end: End) -> Version {
    Version {
        service: "block",
        image,
        end,
    }
}

#[cfg(test)]
mod tests {
    use super::SOUND;

    #[test]
    fn swaps_go_there_and_back() {
        let version = SOUND[1];
        assert_eq!(version.next("vfs"), "vfs-2");
        assert_eq!(version.next("vfs-2"), "vfs");
    }
}
