//! Round trips between two processes, by all the ways that Linux has.

use std::num::NonZeroUsize;
use std::os::fd::OwnedFd;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use bench::{Benchmark, Plan};
use nix::libc;
use nix::mqueue::{MQ_OFlag, MqAttr, MqdT, mq_open, mq_receive, mq_send, mq_unlink};
use nix::sys::eventfd::EventFd;
use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::sys::stat::Mode;
use nix::unistd::{pipe, read, write};
use skink_program::Failed;

use crate::partner::Partner;
use crate::{Entry, failed};

const MOST_BYTES: usize = 4096;

pub(crate) const BENCHMARKS: &[Entry] = &[
    Entry {
        name: "ipc_pipe_8B",
        about: "8 bytes there and back by two pipes",
        plan: Plan::SHORT,
        make: || Streams::pipes(8),
    },
    Entry {
        name: "ipc_pipe_64B",
        about: "the same, 64 bytes",
        plan: Plan::SHORT,
        make: || Streams::pipes(64),
    },
    Entry {
        name: "ipc_pipe_4KiB",
        about: "the same, 4 KiB",
        plan: Plan::SHORT,
        make: || Streams::pipes(4096),
    },
    Entry {
        name: "ipc_unix_seqpacket_32B",
        about: "32 bytes there and back by a UNIX socket that keeps messages apart",
        plan: Plan::SHORT,
        make: || Streams::sockets(32),
    },
    Entry {
        name: "ipc_unix_seqpacket_64B",
        about: "the same, 64 bytes",
        plan: Plan::SHORT,
        make: || Streams::sockets(64),
    },
    Entry {
        name: "ipc_unix_seqpacket_4KiB",
        about: "the same, 4 KiB",
        plan: Plan::SHORT,
        make: || Streams::sockets(4096),
    },
    Entry {
        name: "ipc_posixmq_64B",
        about: "64 bytes there and back by two POSIX message queues",
        plan: Plan::SHORT,
        make: Queues::make,
    },
    Entry {
        name: "ipc_eventfd",
        about: "waking a process and being woken by it, by two eventfds",
        plan: Plan::SHORT,
        make: Events::make,
    },
    Entry {
        name: "ipc_futex",
        about: "the same by two futexes in shared memory",
        plan: Plan::SHORT,
        make: Futexes::make,
    },
];

/// Bytes there and back by file descriptors.
struct Streams {
    there: OwnedFd,
    back: OwnedFd,
    bytes: usize,
    _partner: Partner,
}

impl Streams {
    fn pipes(bytes: usize) -> Result<Box<dyn Benchmark>, Failed> {
        let (their_end, there) = pipe().map_err(failed("pipe"))?;
        let (back, answers) = pipe().map_err(failed("pipe"))?;
        let mut buffer = [0; MOST_BYTES];
        let partner = Partner::start(move || {
            let count = read(&their_end, &mut buffer)?;
            write(&answers, &buffer[..count]).map(drop)
        })?;
        Ok(Box::new(Streams {
            there,
            back,
            bytes,
            _partner: partner,
        }))
    }

    fn sockets(bytes: usize) -> Result<Box<dyn Benchmark>, Failed> {
        let kind = SockType::SeqPacket;
        let (ours, theirs) = socketpair(AddressFamily::Unix, kind, None, SockFlag::empty())
            .map_err(failed("socketpair"))?;
        let mut buffer = [0; MOST_BYTES];
        let partner = Partner::start(move || {
            let count = read(&theirs, &mut buffer)?;
            write(&theirs, &buffer[..count]).map(drop)
        })?;
        let there = ours.try_clone().map_err(Failed::new)?;
        Ok(Box::new(Streams {
            there,
            back: ours,
            bytes,
            _partner: partner,
        }))
    }
}

impl Benchmark for Streams {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let mut buffer = [7; MOST_BYTES];
        let message = &mut buffer[..self.bytes];
        for _ in 0..iterations {
            let sent = write(&self.there, message).map_err(failed("write"))?;
            let received = read(&self.back, message).map_err(failed("read"))?;
            if sent != self.bytes || received != self.bytes {
                return Err(Failed::new("a message came back in parts"));
            }
        }
        Ok(())
    }
}

/// Bytes there and back by message queues.
struct Queues {
    there: MqdT,
    back: MqdT,
    _partner: Partner,
}

const QUEUE_BYTES: usize = 64;

impl Queues {
    fn make() -> Result<Box<dyn Benchmark>, Failed> {
        let (there, back) = (queue()?, queue()?);
        let (requests, answers) = (&there, &back);
        let mut buffer = [0; QUEUE_BYTES];
        let partner = Partner::start(move || {
            let count = mq_receive(requests, &mut buffer, &mut 0)?;
            mq_send(answers, &buffer[..count], 0)
        })?;
        Ok(Box::new(Queues {
            there,
            back,
            _partner: partner,
        }))
    }
}

/// Makes a queue without a name.
fn queue() -> Result<MqdT, Failed> {
    const NAME: &std::ffi::CStr = c"/linux-bench";
    let attributes = MqAttr::new(0, 1, QUEUE_BYTES as i64, 0);
    let flags = MQ_OFlag::O_CREAT | MQ_OFlag::O_EXCL | MQ_OFlag::O_RDWR;
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    let queue = mq_open(NAME, flags, mode, Some(&attributes)).map_err(failed("mq_open"))?;
    mq_unlink(NAME).map_err(failed("mq_unlink"))?;
    Ok(queue)
}

impl Benchmark for Queues {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        let mut message = [7; QUEUE_BYTES];
        for _ in 0..iterations {
            mq_send(&self.there, &message, 0).map_err(failed("mq_send"))?;
            let received = mq_receive(&self.back, &mut message, &mut 0);
            if received.map_err(failed("mq_receive"))? != QUEUE_BYTES {
                return Err(Failed::new("the message came back shorter"));
            }
        }
        Ok(())
    }
}

/// Two counters in the kernel.
struct Events {
    there: EventFd,
    back: EventFd,
    _partner: Partner,
}

impl Events {
    fn make() -> Result<Box<dyn Benchmark>, Failed> {
        let event = || EventFd::new().map_err(failed("eventfd"));
        let (there, back) = (event()?, event()?);
        let (requests, answers) = (&there, &back);
        let partner = Partner::start(move || {
            requests.read()?;
            answers.write(1).map(drop)
        })?;
        Ok(Box::new(Events {
            there,
            back,
            _partner: partner,
        }))
    }
}

impl Benchmark for Events {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.there.write(1).map_err(failed("write"))?;
            if self.back.read().map_err(failed("read"))? != 1 {
                return Err(Failed::new("there was more than one answer"));
            }
        }
        Ok(())
    }
}

/// Two words in shared memory.
struct Futexes {
    words: &'static [AtomicU32; 2],
    _partner: Partner,
}

impl Futexes {
    fn make() -> Result<Box<dyn Benchmark>, Failed> {
        let bytes = NonZeroUsize::new(4096).ok_or_else(|| Failed::new("no bytes"))?;
        let protection = ProtFlags::PROT_READ | ProtFlags::PROT_WRITE;
        // SAFETY: the kernel chooses addresses that nothing else uses.
        let page = unsafe { mmap_anonymous(None, bytes, protection, MapFlags::MAP_SHARED) };
        let page: NonNull<[AtomicU32; 2]> = page.map_err(failed("mmap"))?.cast();
        // SAFETY: the page is never unmapped, is zeroed, and is large enough; both processes
        // use it by atomic operations only.
        let words = unsafe { page.as_ref() };
        let partner = Partner::start(move || {
            take(&words[0])?;
            give(&words[1])
        })?;
        Ok(Box::new(Futexes {
            words,
            _partner: partner,
        }))
    }
}

impl Benchmark for Futexes {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            give(&self.words[0]).map_err(failed("futex"))?;
            take(&self.words[1]).map_err(failed("futex"))?;
        }
        Ok(())
    }
}

/// Sets the word and wakes who waits for it.
fn give(word: &AtomicU32) -> nix::Result<()> {
    word.store(1, Ordering::Release);
    // SAFETY: the word is valid; waking reads nothing else.
    let result = unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
    nix::errno::Errno::result(result).map(drop)
}

/// Waits for the word to be set, and clears it.
fn take(word: &AtomicU32) -> nix::Result<()> {
    while word.swap(0, Ordering::Acquire) == 0 {
        // SAFETY: the word is valid, and without a time limit nothing else is read.
        let result = unsafe {
            let no_limit = std::ptr::null::<libc::timespec>();
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT,
                0,
                no_limit,
            )
        };
        match nix::errno::Errno::result(result) {
            Ok(_) | Err(nix::Error::EAGAIN | nix::Error::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
