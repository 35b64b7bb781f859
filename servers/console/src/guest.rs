//! Wiring: the interface, the UART behind the I/O ports, the interrupt.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;
use core::sync::atomic::{AtomicU8, AtomicU64};

use console::input::{Input, LineStep};
use console::output::{Progress, RequestId, Write};
use console::state::{ECHO, Found, State, WORDS};
use console::sync::Queue;
use console::uart::{self, DeviceError, FIFO_BYTES, Register, STATUS_DATA, STATUS_IDLE, Uart};
use libipc::events::Events;
use libipc::proto::console::{
    ConsoleDispatcher, ConsoleError, ConsoleSchema, ConsoleServer, InputMode, MAX_WRITE,
};
use libipc::proto::init::InitClient;
use libipc::schema::Interface;
use libipc::{Caller, Server};
use libsys::abi::{PORT_STREAM_READ, PortStream};
use libsys::service::Trouble;
use libsys::{Endpoint, Handle, Interrupt, IoPorts, Notification, Sender, ipc, startup, time};

/// Notification bit of the UART's interrupt.
const INTERRUPT_BIT: u8 = 0;
/// Key in the vault of the notification for the interrupt key.
const INTERRUPT_KEY: u64 = 1;
/// How long to wait for a full device: a FIFO of 16 bytes is empty after 1.4 ms at 115,200 baud.
const RETRY_NS: u64 = time::MS;
/// How long a write waits for its turn before the next instance is asked to write, ns.
const PATIENCE_NS: u64 = 2_000 * time::MS;

/// The UART behind its ports.
struct PortUart {
    ports: Handle<IoPorts>,
}

impl PortUart {
    fn stream(&self, stream: &PortStream) -> Result<usize, DeviceError> {
        self.ports
            .stream(stream)
            .map(|bytes| bytes as usize)
            .map_err(|_| DeviceError)
    }
}

impl Uart for PortUart {
    fn read(&self, register: Register) -> Result<u8, DeviceError> {
        self.ports
            .read(register.port(), 1)
            .map(|value| value as u8)
            .map_err(|_| DeviceError)
    }

    fn write(&self, register: Register, value: u8) -> Result<(), DeviceError> {
        self.ports
            .write(register.port(), 1, value.into())
            .map_err(|_| DeviceError)
    }

    fn send(&self, bytes: &[u8], progress: &AtomicU64) -> Result<usize, DeviceError> {
        self.stream(&PortStream {
            data_port: Register::Data.port(),
            status_port: Register::LineStatus.port(),
            ready_mask: uart::STATUS_TRANSMIT,
            burst: FIFO_BYTES,
            reserved: 0,
            direction: 0,
            bytes: bytes.len() as u32,
            buffer: bytes.as_ptr() as u64,
            progress: progress.as_ptr() as u64,
        })
    }

    fn receive(&self, into: &[AtomicU8], progress: &AtomicU64) -> Result<usize, DeviceError> {
        self.stream(&PortStream {
            data_port: Register::Data.port(),
            status_port: Register::LineStatus.port(),
            ready_mask: STATUS_DATA,
            burst: 1,
            reserved: 0,
            direction: PORT_STREAM_READ,
            bytes: into.len() as u32,
            buffer: into.as_ptr() as u64,
            progress: progress.as_ptr() as u64,
        })
    }
}

/// What a reader does next.
enum ReadStep {
    Answer(Vec<u8>),
    Echo(u64, Vec<u8>),
}

struct Console {
    state: State<'static>,
    input: Input<'static>,
    uart: PortUart,
    events: Events,
    endpoint: Rc<Handle<Endpoint>>,
    writers: Queue,
    readers: Queue,
    init: InitClient,
    on_interrupt: RefCell<Option<Handle<Notification>>>,
}

impl Console {
    /// Takes what the UART has and deals with the interrupt key.
    fn take_input(&self) -> Result<(), DeviceError> {
        self.input.receive(&self.uart)?;
        let interrupt = self.input.interrupt();
        if interrupt.is_some()
            && let Some(notification) = &*self.on_interrupt.borrow()
            && let Err(error) = ipc::notify(notification)
        {
            log::warn!("interrupt key told to nobody: {error}");
        }
        self.input.was_checked(interrupt);
        self.readers.raise();
        Ok(())
    }

    /// Gives all of a write to the device; call it in one's turn only.
    async fn finish(&self, write: &Write<'_>) -> Result<(), ConsoleError> {
        while write.advance(&self.uart)? == Progress::Full {
            self.events.sleep_until(time::after(RETRY_NS)).await;
        }
        Ok(())
    }

    async fn write_as(&self, request: RequestId, bytes: &[u8]) -> Result<(), ConsoleError> {
        let ticket = self.writers.enter(request.badge);
        let turn = self.events.until(time::after(PATIENCE_NS), ticket.turn());
        let turn = match turn.await {
            Some(turn) => turn,
            None => {
                // Those in front write as fast as the device takes it, if all is well.
                libipc::doubt_oneself("write");
                ticket.turn().await
            }
        };
        turn.map_err(|_| ConsoleError::Cancelled)?;
        self.finish(&Write::begin(self.state, request, bytes)).await
    }

    fn read_step(&self, request: RequestId, max: usize) -> Option<ReadStep> {
        if self.state.by_line().get() == 0 {
            return self.input.take_raw(request, max).map(ReadStep::Answer);
        }
        match self.input.line_step() {
            LineStep::Echo(at, bytes) => Some(ReadStep::Echo(at, bytes)),
            LineStep::Complete(to) => Some(ReadStep::Answer(self.input.take_line(request, to))),
            LineStep::Wait => None,
        }
    }
}

fn request_id(caller: &Caller) -> RequestId {
    RequestId {
        badge: caller.badge,
        sequence: caller.sequence,
        is_redelivered: caller.redelivered,
    }
}

impl ConsoleServer for Console {
    async fn write(&self, caller: &Caller, bytes: Vec<u8>) -> Result<(), ConsoleError> {
        if bytes.len() > MAX_WRITE {
            return Err(ConsoleError::TooLong);
        }
        self.write_as(request_id(caller), &bytes).await
    }

    async fn read(&self, caller: &Caller, max: u32) -> Result<Vec<u8>, ConsoleError> {
        let request = request_id(caller);
        if let Some(answer) = self.input.replay(request) {
            return Ok(answer);
        }
        let ticket = self.readers.enter(caller.badge);
        loop {
            let step = ticket
                .wait_for(|| self.read_step(request, max as usize))
                .await;
            match step.map_err(|_| ConsoleError::Cancelled)? {
                ReadStep::Answer(bytes) => {
                    // There is room again for what the UART has kept.
                    self.take_input()?;
                    return Ok(bytes);
                }
                ReadStep::Echo(at, bytes) => {
                    // An earlier instance may have begun it; the position is its name.
                    let echo = RequestId {
                        badge: ECHO,
                        sequence: at,
                        is_redelivered: true,
                    };
                    self.write_as(echo, &bytes).await?;
                    self.input.was_echoed(at);
                }
            }
        }
    }

    async fn set_mode(&self, _caller: &Caller, mode: InputMode) -> Result<(), ConsoleError> {
        self.state.by_line().set((mode == InputMode::Line).into());
        self.readers.raise();
        Ok(())
    }

    async fn on_interrupt(
        &self,
        _caller: &Caller,
        notification: Handle<Notification>,
    ) -> Result<(), ConsoleError> {
        if let Err(error) = self
            .init
            .vault_put_notification(INTERRUPT_KEY, &notification)
        {
            log::warn!("the interrupt key will be forgotten at a restart: {error}");
        }
        self.on_interrupt.replace(Some(notification));
        Ok(())
    }

    async fn new_session(&self, _caller: &Caller) -> Result<Handle<Sender>, ConsoleError> {
        let badge = self.state.sessions().get();
        self.state.sessions().set(badge + 1);
        self.endpoint
            .mint(badge)
            .map_err(|_| ConsoleError::NoMemory)
    }

    async fn drain(&self, _caller: &Caller) -> Result<(), ConsoleError> {
        while self.uart.read(Register::LineStatus)? & STATUS_IDLE == 0 {
            self.events.sleep_until(time::after(RETRY_NS)).await;
        }
        Ok(())
    }
}

/// Serves for ever, or says what is missing.
pub(crate) fn serve() -> Result<Infallible, &'static str> {
    let given = startup::read().ok_or("damaged start-up pages")?;
    let endpoint = startup::take::<Endpoint>(&given, "self").ok_or("no endpoint")?;
    let notification = startup::take(&given, "notification").ok_or("no notification")?;
    let init = startup::take::<Sender>(&given, "init").ok_or("no sender to init")?;
    let ports = startup::take::<IoPorts>(&given, "ports").ok_or("no ports")?;
    let interrupt = startup::take::<Interrupt>(&given, "interrupt").ok_or("no interrupt")?;
    libsys::gate::announce(console::state::SCHEMA);
    let (words, ring) = libsys::given::state_atomics(WORDS).ok_or("no state region")?;
    let (state, found) = State::open(words, ring).ok_or("state region too small")?;
    if found == Found::Damaged {
        if libsys::gate::is_trial() {
            libsys::gate::fail(Trouble::StateLost);
        }
        log::error!("the state region was damaged: output may be repeated, input may be lost");
    }

    // The UART and its interrupt belong to the version that serves.
    libipc::gate::pass(&[ConsoleSchema::SCHEMA], || Ok(()));
    let mut server = Server::new(endpoint, notification);
    let init = InitClient::connect(init).map_err(|_| "init speaks another version")?;
    let on_interrupt = init.vault_get_notification(INTERRUPT_KEY).ok();
    let console = Rc::new(Console {
        state,
        input: Input::new(state),
        uart: PortUart { ports },
        events: server.events(),
        endpoint: server.endpoint(),
        writers: Queue::default(),
        readers: Queue::default(),
        init,
        on_interrupt: RefCell::new(on_interrupt),
    });
    let closed = Rc::clone(&console);
    server.on_closed(move |badge| closed.readers.remove(badge));

    let bit = server
        .events()
        .mint(1 << INTERRUPT_BIT)
        .map_err(|_| "no interrupt bit")?;
    interrupt.bind(&bit).map_err(|_| "interrupt not bound")?;
    uart::set_up(&console.uart).map_err(|_| "the UART refuses")?;
    server
        .events()
        .spawn(take_interrupts(Rc::clone(&console), interrupt));
    server.run(ConsoleDispatcher::new(console))
}

async fn take_interrupts(console: Rc<Console>, interrupt: Handle<Interrupt>) {
    loop {
        // Once before the first interrupt: for what was typed while no console ran.
        if console.take_input().is_err() {
            log::error!("the UART refuses to be read");
        }
        if let Err(error) = interrupt.acknowledge() {
            log::error!("interrupt not acknowledged: {error}");
        }
        console.events.bit(INTERRUPT_BIT).await;
    }
}
