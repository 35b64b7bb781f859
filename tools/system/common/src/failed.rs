//! Why a program ends before its time.

use alloc::format;
use alloc::string::String;
use core::fmt;

/// Exit code of a program that failed.
pub const FAILURE: i32 = 1;
/// Exit code of a program that was called wrongly.
pub const USAGE: i32 = 2;

/// Stands for an exit code when it was not a failure but the help that was asked for.
pub(crate) const HELP_ASKED: i32 = i32::MIN;

/// A sentence for people and an exit code.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed {
    /// What went wrong; may be empty when it was said already.
    pub message: String,
    /// Exit code.
    pub code: i32,
}

/// How a program ends: its exit code, or why it failed.
pub type Outcome = Result<i32, Failed>;

impl Failed {
    /// Makes a failure with exit code 1.
    pub fn new(message: impl fmt::Display) -> Self {
        Failed {
            message: format!("{message}"),
            code: FAILURE,
        }
    }

    /// Makes a failure of whoever called the program: exit code 2 and a hint.
    pub fn usage(message: impl fmt::Display) -> Self {
        Failed {
            message: format!("{message}; try --help"),
            code: USAGE,
        }
    }

    /// Puts a subject in front: `cat: /x: no such file or directory`.
    #[must_use]
    pub fn about(self, subject: impl fmt::Display) -> Self {
        Failed {
            message: format!("{subject}: {}", self.message),
            ..self
        }
    }
}

impl<E: fmt::Display> From<libipc::Failure<E>> for Failed {
    fn from(failure: libipc::Failure<E>) -> Self {
        Failed::new(failure)
    }
}

impl From<libipc::ConnectError> for Failed {
    fn from(error: libipc::ConnectError) -> Self {
        Failed::new(error)
    }
}

impl From<libsys::Error> for Failed {
    fn from(error: libsys::Error) -> Self {
        Failed::new(error)
    }
}

impl From<fmt::Error> for Failed {
    fn from(_: fmt::Error) -> Self {
        Failed::new("cannot write output")
    }
}
