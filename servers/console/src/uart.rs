//! The 16550 UART: registers, set-up, and what the policy needs of it.

use core::sync::atomic::{AtomicU8, AtomicU64};

/// First port of the first serial port of a PC.
pub const BASE: u16 = 0x3f8;

/// Depth of the transmit FIFO of a 16550A, bytes.
pub const FIFO_BYTES: u8 = 16;

/// A register, as its distance from [`BASE`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub enum Register {
    /// Data in and out; the divisor's low byte while [`LINE_DIVISOR`] is set.
    Data = 0,
    /// Which interrupts are on; the divisor's high byte while [`LINE_DIVISOR`] is set.
    InterruptEnable = 1,
    /// Why there was an interrupt (read), FIFO control (written).
    InterruptIdentity = 2,
    /// Word length, parity, divisor access.
    LineControl = 3,
    /// Modem lines, and the gate of the interrupt line.
    ModemControl = 4,
    /// What can be sent and read.
    LineStatus = 5,
}

impl Register {
    /// Returns the port of the register.
    pub const fn port(self) -> u16 {
        BASE + self as u16
    }
}

/// [`Register::LineStatus`]: a byte can be read.
pub const STATUS_DATA: u8 = 1 << 0;
/// [`Register::LineStatus`]: the transmit FIFO is empty, [`FIFO_BYTES`] bytes fit.
pub const STATUS_TRANSMIT: u8 = 1 << 5;
/// [`Register::LineStatus`]: the last byte has left the shift register.
pub const STATUS_IDLE: u8 = 1 << 6;
/// [`Register::InterruptEnable`]: when a byte came.
pub const ENABLE_RECEIVE: u8 = 1 << 0;
/// [`Register::LineControl`]: the first two registers are the divisor.
pub const LINE_DIVISOR: u8 = 1 << 7;
/// [`Register::LineControl`]: eight bits, no parity, one stop bit.
pub const LINE_8N1: u8 = 3;
/// FIFO control: on, an interrupt at each byte. The bits that empty the FIFOs are left out, so
/// that what was typed while no server ran is still there.
pub const FIFO_ON: u8 = 1;
/// [`Register::ModemControl`]: ready, and the interrupt line through (OUT2).
pub const MODEM_READY: u8 = 0b1011;

/// The device refused an access: its ports are not ours, or it is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DeviceError;

/// The UART as the policy sees it.
pub trait Uart {
    /// Reads a register.
    ///
    /// # Errors
    ///
    /// When the device refuses.
    fn read(&self, register: Register) -> Result<u8, DeviceError>;

    /// Writes a register.
    ///
    /// # Errors
    ///
    /// When the device refuses.
    fn write(&self, register: Register, value: u8) -> Result<(), DeviceError>;

    /// Sends as many of the bytes as the device takes now. `progress` is raised with each byte,
    /// so that it is exact whenever the server is killed.
    ///
    /// # Errors
    ///
    /// When the device refuses.
    fn send(&self, bytes: &[u8], progress: &AtomicU64) -> Result<usize, DeviceError>;

    /// Receives what is there, at most as much as fits; `progress` as in [`Uart::send`].
    ///
    /// # Errors
    ///
    /// When the device refuses.
    fn receive(&self, into: &[AtomicU8], progress: &AtomicU64) -> Result<usize, DeviceError>;
}

/// Sets the UART up for 115,200 baud, 8N1, FIFOs and receive interrupts on. What is in the FIFOs
/// stays there.
///
/// # Errors
///
/// When the device refuses.
pub fn set_up(uart: &impl Uart) -> Result<(), DeviceError> {
    uart.write(Register::InterruptEnable, 0)?;
    uart.write(Register::LineControl, LINE_DIVISOR | LINE_8N1)?;
    uart.write(Register::Data, 1)?;
    uart.write(Register::InterruptEnable, 0)?;
    uart.write(Register::LineControl, LINE_8N1)?;
    uart.write(Register::InterruptIdentity, FIFO_ON)?;
    uart.write(Register::ModemControl, MODEM_READY)?;
    uart.write(Register::InterruptEnable, ENABLE_RECEIVE)
}

impl From<DeviceError> for libipc::proto::console::ConsoleError {
    fn from(_: DeviceError) -> Self {
        libipc::proto::console::ConsoleError::Device
    }
}
