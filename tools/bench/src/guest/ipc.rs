//! System calls, notifications and messages.

use alloc::boxed::Box;

use bench::arguments::Role;
use bench::echo::{EchoClient, Record};
use bench::{Benchmark, Entry, Plan};
use libsys::abi::{FOREVER, MAX_BATCH};
use libsys::batch::Batch;
use libsys::ipc::{self, Outgoing};
use libsys::{Endpoint, Handle, Notification, Process, Rights, Sender};
use skink_program::Failed;

use super::helpers::{EndBit, ServerProcess, ThreadRoom, wait_for_end};
use super::kit::Kit;
use super::server;

/// The benchmarks.
pub(crate) static BENCHMARKS: &[Entry<Kit>] = &[
    Entry {
        name: "ipc.syscall_null",
        about: "system call that does nothing",
        plan: Plan::SHORT,
        make: |_kit| Ok(Box::new(NullCall)),
    },
    Entry {
        name: "ipc.notify",
        about: "notification, one way, nobody waits",
        plan: Plan::SHORT,
        make: |_kit| Ok(Box::new(Notify(Handle::<Notification>::create()?))),
    },
    Entry {
        name: "ipc.grant",
        about: "copy of a handle put into another process's table",
        plan: Plan::SHORT,
        make: |_kit| Ok(Box::new(Grants::<1>::new()?)),
    },
    Entry {
        name: "ipc.batch_per_call",
        about: "64 such copies in one system call, per copy",
        plan: Plan {
            iterations: 16,
            batches: 15,
        },
        make: |_kit| Ok(Box::new(Grants::<MAX_BATCH>::new()?)),
    },
    Entry {
        name: "ipc.notify_roundtrip.same_space",
        about: "notification to a waiting thread and one back",
        plan: Plan::SHORT,
        make: NotifyRoundTrip::same_space,
    },
    Entry {
        name: "ipc.notify_roundtrip",
        about: "the same, to another process",
        plan: Plan::SHORT,
        make: NotifyRoundTrip::cross_space,
    },
    Entry {
        name: "ipc.roundtrip.same_space.8B",
        about: "call and reply, 8 bytes each, to another thread",
        plan: Plan::SHORT,
        make: Words::<1>::same_space,
    },
    Entry {
        name: "ipc.roundtrip.cross_space.0B",
        about: "call and reply, no payload, to another process",
        plan: Plan::SHORT,
        make: |kit| Words::<0>::cross_space(kit, Role::Words0),
    },
    Entry {
        name: "ipc.roundtrip.cross_space.8B",
        about: "the same, 8 bytes each way",
        plan: Plan::SHORT,
        make: |kit| Words::<1>::cross_space(kit, Role::Words1),
    },
    // Directly behind what it is compared with: the host's load changes.
    Entry {
        name: "ipc.floor.two_cr3",
        about: "system call that loads page tables twice: the floor of a round trip",
        plan: Plan::SHORT,
        make: |_kit| Ok(Box::new(NullSwitch)),
    },
    Entry {
        name: "ipc.roundtrip.cross_space.64B",
        about: "the same, 64 bytes: all that goes in registers",
        plan: Plan::SHORT,
        make: |kit| Words::<8>::cross_space(kit, Role::Words8),
    },
    Entry {
        name: "ipc.roundtrip.cross_space.1KiB",
        about: "the same, 1 KiB through the IPC pages",
        plan: Plan::SHORT,
        make: |kit| RoundTrip::cross_space(kit, 1024),
    },
    Entry {
        name: "ipc.roundtrip.cross_space.4KiB",
        about: "the same, 4 KiB: the longest message",
        plan: Plan::SHORT,
        make: |kit| RoundTrip::cross_space(kit, 4096),
    },
    Entry {
        name: "ipc.typed.32B",
        about: "typed call through libipc, 32 bytes each way",
        plan: Plan::SHORT,
        make: Typed::make,
    },
];

struct NullCall;

impl Benchmark for NullCall {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            libsys::null()?;
        }
        Ok(())
    }
}

struct NullSwitch;

impl Benchmark for NullSwitch {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            libsys::null_switch()?;
        }
        Ok(())
    }
}

struct Notify(Handle<Notification>);

impl Benchmark for Notify {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            ipc::notify(&self.0)?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        if ipc::wait(&self.0, 0)? != u64::MAX {
            return Err(Failed::new("bits of the notification are missing"));
        }
        Ok(iterations.into())
    }
}

/// Copies of a handle for another process, `N` at a time.
struct Grants<const N: usize> {
    gift: Handle<Notification>,
    process: Handle<Process>,
}

impl<const N: usize> Grants<N> {
    /// Kernel memory of the process: enough for the handles of one batch.
    const QUOTA: u64 = 96 * 1024;

    fn new() -> Result<Self, Failed> {
        Ok(Grants {
            gift: Handle::<Notification>::create()?,
            process: Handle::<Process>::create("heir", Self::QUOTA)?,
        })
    }
}

impl<const N: usize> Benchmark for Grants<N> {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            if N == 1 {
                self.process.grant(&self.gift, Rights::NOTIFY)?;
                continue;
            }
            let mut batch = Batch::with_capacity(N);
            for _ in 0..N {
                batch.grant(&self.process, self.gift.raw(), Rights::NOTIFY);
            }
            batch.run().check()?;
        }
        Ok(())
    }

    fn finish(&mut self, iterations: u32) -> Result<u64, Failed> {
        let granted = u64::from(iterations) * N as u64;
        let there = u64::from(self.process.info()?.handles);
        self.process.kill(0)?;
        if !wait_for_end(&self.process) || there != granted {
            return Err(Failed::new(format_args!(
                "{granted} handles were granted, {there} are there"
            )));
        }
        self.process = Handle::<Process>::create("heir", Self::QUOTA)?;
        Ok(granted)
    }
}

impl<const N: usize> Drop for Grants<N> {
    fn drop(&mut self) {
        // The process never ran, and nobody waits for its end.
        let _ = self.process.kill(0);
    }
}

/// Waking one who waits, and being woken by it.
struct NotifyRoundTrip {
    there: Handle<Notification>,
    back: Handle<Notification>,
    // Told to end before it is waited for: fields are dropped in this order.
    _end: EndBit,
    _partner: Option<ServerProcess>,
}

impl NotifyRoundTrip {
    fn same_space(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let room = ThreadRoom::new(kit)?;
        NotifyRoundTrip::start(|waiter, answer| {
            room.start(move || {
                // If it fails this thread ends, and the other waits until it is interrupted.
                let _ = server::answer_notifications(&waiter, &answer);
            })?;
            Ok(None)
        })
    }

    fn cross_space(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        NotifyRoundTrip::start(|waiter, answer| {
            ServerProcess::start_notified(kit, &waiter, &answer).map(Some)
        })
    }

    fn start(
        partner: impl FnOnce(
            Handle<Notification>,
            Handle<Notification>,
        ) -> Result<Option<ServerProcess>, Failed>,
    ) -> Result<Box<dyn Benchmark>, Failed> {
        let (waiter, back) = (
            Handle::<Notification>::create()?,
            Handle::<Notification>::create()?,
        );
        let there = waiter.mint(server::TURN)?;
        let end = EndBit::new(waiter.mint(server::END)?);
        let answer = back.mint(server::TURN)?;
        Ok(Box::new(NotifyRoundTrip {
            there,
            back,
            _end: end,
            _partner: partner(waiter, answer)?,
        }))
    }
}

impl Benchmark for NotifyRoundTrip {
    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            ipc::notify(&self.there)?;
            ipc::wait(&self.back, FOREVER)?;
        }
        Ok(())
    }
}

/// A call to a server that sends the words back, of which there are so few that they stay in
/// registers.
struct Words<const N: usize> {
    // Closed before the server is waited for: fields are dropped in this order.
    sender: Handle<Sender>,
    _server: Option<ServerProcess>,
    words: [u64; N],
}

impl<const N: usize> Words<N> {
    fn same_space(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let endpoint = Handle::<Endpoint>::create()?;
        let sender = endpoint.mint(1)?;
        ThreadRoom::new(kit)?.start(move || {
            // If it fails the caller is told so by the kernel.
            let _ = server::echo_words::<N>(&endpoint);
        })?;
        Ok(Box::new(Words {
            sender,
            _server: None,
            words: [0; N],
        }))
    }

    fn cross_space(kit: &Kit, role: Role) -> Result<Box<dyn Benchmark>, Failed> {
        let (sender, server) = ServerProcess::start(kit, role)?;
        Ok(Box::new(Words {
            sender,
            _server: Some(server),
            words: [0; N],
        }))
    }
}

impl<const N: usize> Benchmark for Words<N> {
    fn prepare(&mut self, iterations: u32) -> Result<(), Failed> {
        for (at, word) in self.words.iter_mut().enumerate() {
            *word = word.wrapping_mul(3) ^ u64::from(iterations) << (8 * at);
        }
        let (info, answer) = ipc::call_short(&self.sender, 0, self.words, FOREVER)?;
        let is_same = answer.0.iter().zip(&self.words).all(|(a, b)| a == b);
        if info.bytes() != N * 8 || !is_same {
            return Err(Failed::new("the payload did not come back as it was"));
        }
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            ipc::call_short(&self.sender, 0, self.words, FOREVER)?;
        }
        Ok(())
    }
}

/// A call to a server that sends the payload back, which is in the IPC page.
struct RoundTrip {
    // Closed before the server is waited for: fields are dropped in this order.
    sender: Handle<Sender>,
    _server: ServerProcess,
    bytes: usize,
}

impl RoundTrip {
    fn cross_space(kit: &Kit, bytes: usize) -> Result<Box<dyn Benchmark>, Failed> {
        let (sender, server) = ServerProcess::start(kit, Role::Echo)?;
        Ok(Box::new(RoundTrip {
            sender,
            _server: server,
            bytes,
        }))
    }

    fn call(&self) -> libsys::Result<usize> {
        let (info, _, _) =
            ipc::call_for_words(&self.sender, 0, self.bytes, &Outgoing::NONE, FOREVER)?;
        Ok(info.bytes())
    }
}

impl Benchmark for RoundTrip {
    fn prepare(&mut self, iterations: u32) -> Result<(), Failed> {
        let byte_at = |at: usize| (at as u32 ^ iterations) as u8 ^ 0x5a;
        ipc::with_page(|page| {
            for (at, byte) in page.iter_mut().enumerate() {
                *byte = byte_at(at);
            }
        });
        let answered = self.call()?;
        let is_same = ipc::with_page(|page| {
            page.iter()
                .take(self.bytes)
                .enumerate()
                .all(|(at, byte)| *byte == byte_at(at))
        });
        if answered != self.bytes || !is_same {
            return Err(Failed::new("the payload did not come back as it was"));
        }
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.call()?;
        }
        Ok(())
    }
}

struct Typed {
    // Closed before the server is waited for: fields are dropped in this order.
    client: EchoClient,
    _server: ServerProcess,
}

impl Typed {
    fn make(kit: &Kit) -> Result<Box<dyn Benchmark>, Failed> {
        let (sender, server) = ServerProcess::start(kit, Role::Typed)?;
        let client = EchoClient::connect(sender).map_err(Failed::new)?;
        Ok(Box::new(Typed {
            client,
            _server: server,
        }))
    }
}

impl Benchmark for Typed {
    fn prepare(&mut self, _iterations: u32) -> Result<(), Failed> {
        if self.client.echo(Record::SAMPLE)? != Record::SAMPLE {
            return Err(Failed::new("the record did not come back as it was"));
        }
        Ok(())
    }

    fn run(&mut self, iterations: u32) -> Result<(), Failed> {
        for _ in 0..iterations {
            self.client.echo(Record::SAMPLE)?;
        }
        Ok(())
    }
}
