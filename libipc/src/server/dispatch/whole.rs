//! Whether a reply is still the one that was written.
//!
//! What was written is looked at where it is written. On its way from there to the system call a reply is
//! a status, a length and handles, and each of them can become another one.

use super::Answer;
use crate::schema::Method;
use crate::wire::Status;

/// Returns whether a reply has the status, the length and the handles that one of the method can have, as far
/// as its first byte tells, and can be read where that is to be found out.
#[inline(never)]
pub(super) fn is_whole(method: &Method, answer: &Answer, bytes: &[u8]) -> bool {
    let handles = answer.handles.as_ref().map_or(0, |handles| handles.count());
    match (answer.status, bytes) {
        (Status::Answer, [0, ..]) => {
            let (least, most) = method.handles;
            (least..=most).contains(&handles) && method.reads.is_none_or(|reads| reads(bytes))
        }
        (Status::Answer, [1, ..]) => handles == 0 && method.reads.is_none_or(|reads| reads(bytes)),
        (Status::Answer, _) => false,
        // There is none, and the label says why.
        (_, bytes) => bytes.is_empty() && handles == 0,
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;

    use libsys::abi::RawHandle;
    use libsys::{Handle, Sender};

    use super::is_whole;
    use crate::schema::{Contract, Method};
    use crate::server::Answer;
    use crate::wire::{OutHandles, Status, is_reply};

    const METHOD: Method = Method {
        name: "a",
        contract: Contract::ExactlyOnce,
        is_stream: false,
        digest: 0,
        reads: Some(is_reply::<u16, u8>),
        handles: (1, 2),
    };

    /// Returns whether a reply with so many handles passes.
    fn passes(method: &Method, status: Status, bytes: &[u8], handles: usize) -> bool {
        let mut out = OutHandles::new();
        for number in 0..handles {
            let handle = Handle::<Sender>::from_raw(RawHandle(number as u32));
            out.copy(&handle);
            let _ = handle.into_raw();
        }
        let answer = Answer {
            status,
            bytes: bytes.len() as u32,
            handles: (handles > 0).then(|| Box::new(out)),
        };
        is_whole(method, &answer, bytes)
    }

    #[test]
    fn a_reply_has_its_status_its_length_and_its_handles() {
        let is_right = |status, bytes: &[u8], handles| passes(&METHOD, status, bytes, handles);
        // A value, and an error.
        assert!(is_right(Status::Answer, &[0, 5], 1));
        assert!(is_right(Status::Answer, &[0, 5], 2));
        assert!(is_right(Status::Answer, &[1, 5], 0));
        assert!(is_right(Status::ReplyTooLong, &[], 0));
        for (status, bytes, handles) in [
            (Status::Answer, &[0, 5][..], 0),
            (Status::Answer, &[0, 5], 3),
            (Status::Answer, &[1, 5], 1),
            (Status::Answer, &[0], 1),
            (Status::Answer, &[0, 5, 0], 1),
            (Status::Answer, &[2, 5], 0),
            (Status::Answer, &[], 0),
            (Status::Malformed, &[0, 5], 0),
            (Status::Restarted, &[], 1),
        ] {
            assert!(
                !is_right(status, bytes, handles),
                "{status:?} {bytes:?} {handles}"
            );
        }
        let unread = Method {
            reads: None,
            ..METHOD
        };
        assert!(passes(&unread, Status::Answer, &[0], 1));
        assert!(!passes(&unread, Status::Answer, &[], 1));
    }
}
