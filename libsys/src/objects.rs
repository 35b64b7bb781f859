//! Endpoints, notifications, interrupts, ports and the machine.

use skink_abi::{KernelStats, PortStream, RawHandle, Syscall, SystemInfo};

use crate::{
    Endpoint, Handle, Interrupt, IoPorts, Memory, Notification, Result, Sender, System, raw,
};

impl Handle<Endpoint> {
    /// Makes an endpoint.
    ///
    /// # Errors
    ///
    /// `NoMemory`, `TooManyHandles`.
    pub fn create() -> Result<Handle<Endpoint>> {
        raw::plain(Syscall::EndpointCreate, []).map(made)
    }

    /// Makes a send side whose requests carry `badge`. Senders made apart with one badge count
    /// as one for the news that the last was closed.
    ///
    /// # Errors
    ///
    /// `NoMemory`, `TooManyHandles`.
    pub fn mint(&self, badge: u64) -> Result<Handle<Sender>> {
        raw::plain(Syscall::EndpointMint, [self.raw().0.into(), badge]).map(made)
    }

    /// Says that the news of the closed badge was dealt with. Until then it is told again when
    /// this receiver dies.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` when there is no such news.
    pub fn forget(&self, badge: u64) -> Result<()> {
        let arguments = [self.raw().0.into(), badge];
        raw::plain(Syscall::EndpointForget, arguments).map(|_| ())
    }
}

impl Handle<Notification> {
    /// Makes a notification; the handle sets and sees all 64 bits.
    ///
    /// # Errors
    ///
    /// `NoMemory`, `TooManyHandles`.
    pub fn create() -> Result<Handle<Notification>> {
        raw::plain(Syscall::NotificationCreate, []).map(made)
    }

    /// Makes a handle that can only set `bits`.
    ///
    /// # Errors
    ///
    /// `NoMemory`, `TooManyHandles`.
    pub fn mint(&self, bits: u64) -> Result<Handle<Notification>> {
        raw::plain(Syscall::NotificationMint, [self.raw().0.into(), bits]).map(made)
    }

    /// Lets receivers of the endpoint get the bits too. An endpoint takes one notification; a
    /// new one takes the place of the old.
    ///
    /// # Errors
    ///
    /// Those of bad handles.
    pub fn bind(&self, endpoint: &Handle<Endpoint>) -> Result<()> {
        let arguments = [self.raw().0.into(), endpoint.raw().0.into()];
        raw::plain(Syscall::NotificationBind, arguments).map(|_| ())
    }
}

impl Handle<Interrupt> {
    /// Has the notification's bits set at each interrupt.
    ///
    /// # Errors
    ///
    /// Those of bad handles.
    pub fn bind(&self, notification: &Handle<Notification>) -> Result<()> {
        let arguments = [self.raw().0.into(), notification.raw().0.into()];
        raw::plain(Syscall::InterruptBind, arguments).map(|_| ())
    }

    /// Lets the next interrupt of a level-triggered line come.
    ///
    /// # Errors
    ///
    /// Those of a bad handle.
    pub fn acknowledge(&self) -> Result<()> {
        raw::plain(Syscall::InterruptAck, [self.raw().0.into()]).map(|_| ())
    }
}

impl Handle<IoPorts> {
    /// Reads a port of `width` 1, 2 or 4 bytes.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` outside the range.
    pub fn read(&self, port: u16, width: u8) -> Result<u32> {
        let arguments = [self.raw().0.into(), port.into(), width.into()];
        raw::plain(Syscall::PortIn, arguments).map(|(value, _)| value as u32)
    }

    /// Writes a port of `width` 1, 2 or 4 bytes.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` outside the range.
    pub fn write(&self, port: u16, width: u8, value: u32) -> Result<()> {
        let arguments = [
            self.raw().0.into(),
            port.into(),
            width.into(),
            value.into(),
            0,
            0,
        ];
        raw::plain(Syscall::PortOut, arguments).map(|_| ())
    }

    /// Moves a run of bytes and returns how many went; see [`PortStream`].
    ///
    /// # Errors
    ///
    /// `InvalidArgument` outside the range, `BadAddress` for a buffer that is not mapped.
    pub fn stream(&self, stream: &PortStream) -> Result<u32> {
        let arguments = [
            self.raw().0.into(),
            core::ptr::from_ref(stream) as u64,
            0,
            0,
            0,
            0,
        ];
        raw::plain(Syscall::PortStream, arguments).map(|(bytes, _)| bytes as u32)
    }
}

impl Handle<System> {
    /// Makes a message-signalled interrupt: the handle, and the address and data that the device
    /// must write.
    ///
    /// # Errors
    ///
    /// `Unavailable` when the vectors are used up, `MissingRight`.
    pub fn create_msi(&self) -> Result<(Handle<Interrupt>, u64, u32)> {
        let mut message = [0_u64; 2];
        let arguments = [self.raw().0.into(), message.as_mut_ptr() as u64];
        let interrupt = raw::plain(Syscall::InterruptCreateMsi, arguments).map(made)?;
        Ok((interrupt, message[0], message[1] as u32))
    }

    /// Takes an ISA interrupt line (its routing and polarity are read from ACPI by the kernel).
    ///
    /// # Errors
    ///
    /// `Unavailable` when there is no such line, `AlreadyBound` when it was taken.
    pub fn create_line(&self, line: u32) -> Result<Handle<Interrupt>> {
        let arguments = [self.raw().0.into(), line.into()];
        raw::plain(Syscall::InterruptCreateLine, arguments).map(made)
    }

    /// Makes an object for a range of I/O ports.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` past port 65,535, `MissingRight`.
    pub fn create_ports(&self, first: u16, count: u16) -> Result<Handle<IoPorts>> {
        let arguments = [self.raw().0.into(), first.into(), count.into()];
        raw::plain(Syscall::PortsCreate, arguments).map(made)
    }

    /// Makes an object for device registers. RAM is refused.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` for RAM or a misaligned address, `MissingRight`.
    pub fn device_memory(&self, physical: u64, pages: u64) -> Result<Handle<Memory>> {
        let arguments = [self.raw().0.into(), physical, pages];
        raw::plain(Syscall::DeviceMemory, arguments).map(made)
    }

    /// Tells what the machine is and what the kernel counted.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`crate::Rights::INSPECT`].
    pub fn system_info(&self) -> Result<(SystemInfo, KernelStats)> {
        let (mut info, mut stats) = (SystemInfo::default(), KernelStats::default());
        let arguments = [
            self.raw().0.into(),
            &raw mut info as u64,
            &raw mut stats as u64,
            0,
            0,
            0,
        ];
        raw::plain(Syscall::SystemInfo, arguments)?;
        Ok((info, stats))
    }

    /// Reads the kernel log from a position (bytes since boot): bytes read and the next position.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`crate::Rights::INSPECT`], `BadAddress`.
    pub fn read_kernel_log(&self, position: u64, buffer: &mut [u8]) -> Result<(usize, u64)> {
        let arguments = [
            self.raw().0.into(),
            position,
            buffer.as_mut_ptr() as u64,
            buffer.len() as u64,
            0,
            0,
        ];
        let (bytes, next) = raw::plain(Syscall::KernelLogRead, arguments)?;
        Ok((bytes as usize, next))
    }

    /// Powers the machine off.
    ///
    /// # Errors
    ///
    /// `MissingRight` without [`crate::Rights::POWER`].
    pub fn shutdown(&self, code: u32) -> Result<()> {
        raw::plain(Syscall::SystemShutdown, [self.raw().0.into(), code.into()]).map(|_| ())
    }
}

/// Takes the handle that a call made.
fn made<K: crate::Kind>((raw, _): (u64, u64)) -> Handle<K> {
    Handle::from_raw(RawHandle(raw as u32))
}
