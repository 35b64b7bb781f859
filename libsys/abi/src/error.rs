//! Why a system call failed.

macro_rules! errors {
    ($($(#[$meta:meta])* $name:ident = $number:literal, $text:literal;)*) => {
        /// Why a system call failed. Code 0 in `rax` means success and is no variant.
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
        #[repr(u16)]
        pub enum Error {
            $($(#[$meta])* $name = $number,)*
        }

        impl Error {
            /// Every error, in the order of its code.
            pub const ALL: &'static [Error] = &[$(Error::$name),*];

            /// Returns the error with this code, or `None` for 0 and unknown codes.
            pub const fn from_code(code: u64) -> Option<Error> {
                match code {
                    $($number => Some(Error::$name),)*
                    _ => None,
                }
            }

            /// Returns the code that stands in `rax`.
            pub const fn code(self) -> u64 {
                self as u64
            }

            /// Returns one sentence for people.
            pub const fn text(self) -> &'static str {
                match self {
                    $(Error::$name => $text,)*
                }
            }
        }
    };
}

errors! {
    /// No such system call, or one that a batch cannot hold. Remedy: rebuild the program for this
    /// kernel.
    InvalidSyscall = 1, "no such system call";
    /// The handle was never given out or was closed since.
    InvalidHandle = 2, "invalid or closed handle";
    /// The handle names an object of another kind.
    WrongKind = 3, "handle names an object of another kind";
    /// The handle lacks a right that the call needs. Remedy: ask the granter for it.
    MissingRight = 4, "handle lacks a needed right";
    /// An argument is out of its range.
    InvalidArgument = 5, "argument out of range";
    /// A pointer is not mapped as needed in the caller's space.
    BadAddress = 6, "address not mapped";
    /// The process's quota of kernel memory, or the kernel's pool, is used up.
    NoMemory = 7, "kernel memory quota used up";
    /// The handle table of the process (or of the receiver) is full.
    TooManyHandles = 8, "handle table full";
    /// The deadline passed first. A call that a server had already taken may still take effect.
    Timeout = 9, "deadline passed";
    /// Nothing was there and the deadline was 0.
    WouldBlock = 10, "nothing there now";
    /// The endpoint was destroyed or revoked; nobody will ever answer.
    EndpointGone = 11, "endpoint is gone";
    /// The server closed the reply handle without answering.
    ReplyDropped = 12, "server dropped the request";
    /// The request crashed its server as often as is allowed and was given up.
    ServerCrashed = 13, "request crashed its server and was given up";
    /// The caller that this reply was for has died or given up.
    ReplyGone = 14, "caller no longer waits";
    /// Something is mapped there already. Remedy: unmap it first.
    AlreadyMapped = 15, "address already mapped";
    /// Nothing is mapped there.
    NotMapped = 16, "address not mapped";
    /// The process or thread has ended.
    Dead = 17, "process or thread has ended";
    /// The object is bound or watched already.
    AlreadyBound = 18, "already bound";
    /// The message is longer than the limit.
    MessageTooLong = 19, "message too long";
    /// The machine has no such thing (vector, interrupt line, table).
    Unavailable = 20, "not available on this machine";
    /// The object was revoked.
    Revoked = 21, "object was revoked";
    /// The process is alive, or not all of it is gone yet. Remedy: wait until it is dead.
    StillAlive = 22, "process has not ended yet";
}

impl core::fmt::Display for Error {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.text())
    }
}

impl core::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::Error;

    #[test]
    fn codes_round_trip_and_zero_is_success() {
        assert_eq!(Error::from_code(0), None);
        for &error in Error::ALL {
            assert_eq!(Error::from_code(error.code()), Some(error));
            assert!(!error.text().is_empty());
        }
    }
}
