//! Many calls at once, while clients and servers come and go.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use libsys::{Endpoint, Error, Handle, Memory, Rights, Sender, time};

use crate::Test;
use crate::context::{Context, Running, SOON, because, ensure, own};
use crate::random::Random;
use crate::roles::{Count, Counts};
use crate::wire::{self, Server, ask};

pub(super) const TESTS: &[Test] = &[
    Test {
        name: "storm.no-call-and-no-handle-is-lost",
        run: storm,
    },
    Test {
        name: "storm.vector-registers-survive-calls",
        run: vector_registers,
    },
];

/// How long the storm lasts, ns.
const DURATION: u64 = 4_000 * time::MS;
/// Longest time between two deaths, ns.
const PAUSE: u64 = 30 * time::MS;
const SERVERS: u64 = 2;
/// Kernel memory in use of this program that may come and go, bytes.
const SLACK: u64 = 64 << 10;

/// Clients and servers by number: the clients first.
struct Storm<'a> {
    context: &'a Context,
    endpoint: Handle<Endpoint>,
    sender: Handle<Sender>,
    memory: Handle<Memory>,
    counts: Counts,
    random: Random,
    clients: u64,
    end: u64,
    children: Vec<Running>,
    client_deaths: u64,
    server_deaths: u64,
}

impl<'a> Storm<'a> {
    fn new(context: &'a Context, seed: u64) -> Result<Self, String> {
        let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let sender = endpoint.mint(1).map_err(because("mint"))?;
        let memory = wire::object(context, 1)?;
        let counts = Counts::map(&memory).map_err(because("map"))?;
        let mut storm = Storm {
            context,
            endpoint,
            sender,
            memory,
            counts,
            random: Random::new(seed),
            clients: context.cpus()? + 2,
            end: time::after(DURATION),
            children: Vec::new(),
            client_deaths: 0,
            server_deaths: 0,
        };
        for number in 0..storm.clients + SERVERS {
            let child = storm.start(number)?;
            storm.children.push(child);
        }
        Ok(storm)
    }

    fn start(&mut self, number: u64) -> Result<Running, String> {
        let seed = self.random.next();
        let both = Rights::READ | Rights::WRITE | Rights::DUPLICATE | Rights::TRANSFER;
        let spawn = if number < self.clients {
            self.context
                .role("storm-client", &[number, seed, self.end])
                .handle("server", &self.sender, Rights::ALL)
        } else {
            self.context.role("storm-server", &[number, seed]).handle(
                "endpoint",
                &self.endpoint,
                Rights::ALL,
            )
        };
        self.context
            .start(spawn.handle("counts", &self.memory, both))
    }

    /// Ends a client or a server and starts it again, over and over.
    fn rage(&mut self) -> Result<(), String> {
        while time::now() + 2 * PAUSE < self.end {
            time::sleep(self.random.below(PAUSE));
            let number = self.random.below(self.clients + SERVERS);
            let index = number as usize;
            let info = self.children[index].info()?;
            ensure!(
                info.reason == 0,
                "number {number} ended by {}",
                crate::context::ending(&info)
            );
            self.children[index].kill()?;
            if number < self.clients {
                self.client_deaths += 1;
            } else {
                self.server_deaths += 1;
            }
            self.children[index] = self.start(number)?;
        }
        Ok(())
    }

    fn of_clients(&self, count: Count) -> u64 {
        let numbers = 0..self.clients;
        numbers.map(|number| self.counts.get(number, count)).sum()
    }

    fn of_servers(&self, count: Count) -> u64 {
        let numbers = self.clients..self.clients + SERVERS;
        numbers.map(|number| self.counts.get(number, count)).sum()
    }

    /// Checks what was counted: who died may have been about to count one more thing.
    fn check_counts(&self) -> Result<(), String> {
        let begun = self.of_clients(Count::Begun);
        let answered = self.of_clients(Count::Answered);
        let timed_out = self.of_clients(Count::TimedOut);
        let failed = self.of_clients(Count::Failed);
        let (received, redelivered) = (
            self.of_servers(Count::Received),
            self.of_servers(Count::Redelivered),
        );
        let (delivered, late, blind) = (
            self.of_servers(Count::Delivered),
            self.of_servers(Count::Late),
            self.of_servers(Count::Blind),
        );
        self.context.note(format!(
            "{begun} calls: {answered} answered, {timed_out} timed out; {received} received, \
             {redelivered} again; {delivered} answers known to arrive, {late} late, {blind} others; \
             {} clients and {} servers died",
            self.client_deaths, self.server_deaths
        ));
        let last = (0..self.clients).map(|number| self.counts.get(number, Count::LastError));
        ensure!(
            failed == 0,
            "{failed} calls failed, with {:?}",
            last.filter_map(Error::from_code).collect::<Vec<_>>()
        );
        let ended = answered + timed_out;
        ensure!(
            ended <= begun && begun <= ended + self.client_deaths,
            "{begun} calls began, {ended} ended, {} clients died",
            self.client_deaths
        );
        let deaths = self.client_deaths + self.server_deaths;
        ensure!(
            delivered <= answered + deaths && answered <= delivered + blind + deaths,
            "{delivered} to {} answers went out, {answered} came, {deaths} died",
            delivered + blind
        );
        ensure!(answered > 100 && timed_out > 10, "that was no storm");
        ensure!(redelivered > 0, "no request was delivered again");
        Ok(())
    }

    /// Checks that no server has more handles than one that has just begun.
    fn check_handles(&mut self) -> Result<(), String> {
        let servers = self.children.split_off(self.clients as usize);
        for server in servers {
            let fresh_endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
            let used = core::mem::replace(&mut self.endpoint, fresh_endpoint);
            let fresh = self.start(self.clients)?;
            let expected = fresh
                .until("receiving", |info| info.receiving == 1)?
                .handles;
            self.endpoint = used;
            server.until("back to the handles of a fresh one", |info| {
                info.handles == expected
            })?;
            server.kill()?;
            fresh.kill()?;
        }
        Ok(())
    }
}

fn storm(context: &Context) -> Result<(), String> {
    let bystander = Server::start(context)?;
    // Whatever is only made once is made now.
    context.totals()?;
    let (before, redelivered) = (own()?, context.kernel_stats()?.redelivered);
    let seed = time::now() | 1;
    context.note(format!("seed {seed:#x}"));
    one_storm(context, seed).map_err(|why| format!("seed {seed:#x}: {why}"))?;
    let count = context.kernel_stats()?.redelivered;
    ensure!(count > redelivered, "the kernel counted no redelivery");
    let answer = wire::call(&bystander.sender, ask::ECHO, b"ab").map_err(because("a bystander"))?;
    ensure!(answer.bytes == b"ba", "a bystander gives wrong answers");
    let deadline = time::after(SOON);
    loop {
        let after = own()?;
        let is_back =
            after.handles == before.handles && after.kernel_bytes <= before.kernel_bytes + SLACK;
        if is_back {
            return Ok(());
        }
        ensure!(
            time::now() < deadline,
            "{} handles and {} bytes of kernel memory, before it were {} and {}",
            after.handles,
            after.kernel_bytes,
            before.handles,
            before.kernel_bytes
        );
        time::sleep(time::MS);
    }
}

fn one_storm(context: &Context, seed: u64) -> Result<(), String> {
    let mut storm = Storm::new(context, seed)?;
    storm.rage()?;
    // Every call comes to an end, those without a deadline too.
    for (number, client) in storm.children[..storm.clients as usize].iter().enumerate() {
        client
            .succeed()
            .map_err(|why| format!("client {number}: {why}"))?;
    }
    storm.check_handles()?;
    storm.check_counts()
}

fn vector_registers(context: &Context) -> Result<(), String> {
    const CALLS: u64 = 2_000;
    let mut pairs = Vec::new();
    for number in 0..context.cpus()? + 1 {
        let endpoint = Handle::<Endpoint>::create().map_err(because("endpoint"))?;
        let sender = endpoint.mint(1).map_err(because("mint"))?;
        let spawn =
            context
                .role("vector-server", &[2 * number])
                .handle("endpoint", &endpoint, Rights::ALL);
        let server = context.start(spawn)?;
        let spawn = context
            .role("vector-client", &[2 * number + 1, CALLS])
            .handle("server", &sender, Rights::ALL);
        pairs.push((context.start(spawn)?, server));
    }
    for (client, server) in &pairs {
        client.succeed()?;
        server.kill()?;
    }
    Ok(())
}
