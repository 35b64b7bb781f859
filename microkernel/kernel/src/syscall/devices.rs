//! Calls on interrupts, I/O ports, device registers and the machine.

use skink_abi::{Error, ObjectKind, PAGE_SIZE, PORT_STREAM_READ, PortStream, Rights, SystemInfo};
use skink_kcore::Id;
use skink_kcore::handles::Entry;
use x86_64::instructions::port::Port;

use super::objects::{give, take_notification};
use super::{Call, Result};
use crate::arch::x86_64::paging::Access;
use crate::arch::x86_64::{cpu, time};
use crate::ipc::RawHandle32;
use crate::machine::MACHINE;
use crate::memory::Medium;
use crate::{interrupt, log as kernel_log, machine, memory, object, stats, user};

/// Rights of who makes an object for a device.
const MAKER: Rights = Rights(Rights::DUPLICATE.0 | Rights::TRANSFER.0 | Rights::MANAGE.0);

fn require_system(call: &mut Call<'_>, rights: Rights) -> core::result::Result<(), Error> {
    let system = call.arguments[0];
    call.process
        .find(call.held, system, ObjectKind::System, rights)
        .map(|_| ())
}

pub(super) fn create_message_interrupt(call: &mut Call<'_>) -> Result {
    require_system(call, Rights::INTERRUPTS)?;
    let (id, address, data) = interrupt::create_message(call.process)?;
    let given = give(call, Entry::new(ObjectKind::Interrupt, MAKER, id, 0))?;
    let told = user::write(call.held, call.process, call.arguments[1], &[address, data]);
    if let Err(error) = told {
        let handle = skink_abi::RawHandle(given.0 as u32);
        let removed = call.process.handles.lock(call.held).remove(handle);
        if let Ok(entry) = removed {
            object::release(call.held, entry);
        }
        return Err(error);
    }
    Ok(given)
}

pub(super) fn create_line_interrupt(call: &mut Call<'_>) -> Result {
    require_system(call, Rights::INTERRUPTS)?;
    let line = u32::try_from(call.arguments[1]).map_err(|_| Error::InvalidArgument)?;
    let id = interrupt::create_line(call.process, line)?;
    give(call, Entry::new(ObjectKind::Interrupt, MAKER, id, 0))
}

/// Finds an interrupt, with a reference.
fn take_interrupt(call: &mut Call<'_>) -> core::result::Result<Id, Error> {
    let handle = RawHandle32::check(call.arguments[0])?;
    let handles = call.process.handles.lock(call.held);
    let entry = handles.find(handle, ObjectKind::Interrupt, Rights::NONE)?;
    interrupt::INTERRUPTS.retain(entry.object);
    Ok(entry.object)
}

pub(super) fn bind_interrupt(call: &mut Call<'_>) -> Result {
    let id = take_interrupt(call)?;
    let target = take_notification(call.process, call.held, call.arguments[1], Rights::NOTIFY);
    let result = target.map(|(notification, bits)| {
        interrupt::bind(id, notification, bits);
        object::release_notification(notification);
        (0, 0)
    });
    interrupt::release(id);
    result
}

pub(super) fn acknowledge_interrupt(call: &mut Call<'_>) -> Result {
    let id = take_interrupt(call)?;
    interrupt::acknowledge(id);
    interrupt::release(id);
    Ok((0, 0))
}

pub(super) fn create_ports(call: &mut Call<'_>) -> Result {
    require_system(call, Rights::DEVICES)?;
    let [_, first, count, ..] = call.arguments;
    if count == 0 || first.checked_add(count).is_none_or(|end| end > 0x1_0000) {
        return Err(Error::InvalidArgument);
    }
    let range = first << 32 | count;
    give(call, Entry::new(ObjectKind::IoPorts, MAKER, 0, range))
}

/// Checks that the caller may use `width` ports from `port`.
fn check_ports(call: &mut Call<'_>, port: u64, width: u64) -> core::result::Result<u16, Error> {
    let entry = call.process.find(
        call.held,
        call.arguments[0],
        ObjectKind::IoPorts,
        Rights::NONE,
    )?;
    let (first, count) = (entry.detail >> 32, entry.detail & 0xffff_ffff);
    let fits = port >= first
        && port
            .checked_add(width)
            .is_some_and(|end| end <= first + count);
    if !fits || !matches!(width, 1 | 2 | 4) {
        return Err(Error::InvalidArgument);
    }
    Ok(port as u16)
}

pub(super) fn port_in(call: &mut Call<'_>) -> Result {
    let [_, port, width, ..] = call.arguments;
    let port = check_ports(call, port, width)?;
    // SAFETY: the program was given this port.
    let value = unsafe {
        match width {
            1 => Port::<u8>::new(port).read().into(),
            2 => Port::<u16>::new(port).read().into(),
            _ => Port::<u32>::new(port).read(),
        }
    };
    Ok((value.into(), 0))
}

pub(super) fn port_out(call: &mut Call<'_>) -> Result {
    let [_, port, width, value, ..] = call.arguments;
    let port = check_ports(call, port, width)?;
    // SAFETY: the program was given this port.
    unsafe {
        match width {
            1 => Port::<u8>::new(port).write(value as u8),
            2 => Port::<u16>::new(port).write(value as u16),
            _ => Port::<u32>::new(port).write(value as u32),
        }
    }
    Ok((0, 0))
}

pub(super) fn port_stream(call: &mut Call<'_>) -> Result {
    let stream: PortStream = user::read(call.held, call.process, call.arguments[1])?;
    let data = check_ports(call, stream.data_port.into(), 1)?;
    let status = check_ports(call, stream.status_port.into(), 1)?;
    let burst = u64::from(stream.burst);
    if stream.bytes > 4096 || burst == 0 || burst > 64 || stream.direction > PORT_STREAM_READ {
        return Err(Error::InvalidArgument);
    }
    let mut progress = 0;
    if stream.progress != 0 {
        progress = user::read::<u64, 0>(call.held, call.process, stream.progress)?;
        // It must be writable before the device has had anything.
        user::write(call.held, call.process, stream.progress, &progress)?;
    }
    let is_read = stream.direction == PORT_STREAM_READ;
    let access = if is_read { Access::Write } else { Access::Read };
    let (mut data, mut status) = (Port::<u8>::new(data), Port::<u8>::new(status));
    // SAFETY: the program was given these ports.
    let mut is_ready = move || unsafe { status.read() } & stream.ready_mask != 0;
    let mut done = 0_u64;
    while done < stream.bytes.into() && is_ready() {
        let count = burst.min(u64::from(stream.bytes) - done);
        let mut moved = 0;
        let at = stream.buffer.wrapping_add(done);
        let result = user::pieces(
            call.held,
            call.process,
            at,
            count,
            access,
            |page, _, length| {
                for offset in 0..length {
                    // SAFETY: a byte of a page that the program may use so, and its own port.
                    unsafe {
                        let byte = crate::arch::x86_64::physical::pointer::<u8>(page + offset);
                        if is_read {
                            byte.write_volatile(data.read());
                        } else {
                            data.write(byte.read_volatile());
                        }
                    }
                    moved += 1;
                }
                Ok(())
            },
        );
        done += moved;
        if stream.progress != 0 {
            user::write(call.held, call.process, stream.progress, &(progress + done))?;
        }
        if let Err(error) = result {
            return if done == 0 { Err(error) } else { Ok((done, 0)) };
        }
    }
    Ok((done, 0))
}

pub(super) fn create_device_memory(call: &mut Call<'_>) -> Result {
    require_system(call, Rights::DEVICES)?;
    let [_, physical, pages, ..] = call.arguments;
    let bytes = pages
        .checked_mul(PAGE_SIZE as u64)
        .ok_or(Error::InvalidArgument)?;
    let end = physical.checked_add(bytes).ok_or(Error::InvalidArgument)?;
    let is_aligned = physical.is_multiple_of(PAGE_SIZE as u64);
    if pages == 0 || !is_aligned || end > 1 << 52 || machine::is_kept(physical, end) {
        return Err(Error::InvalidArgument);
    }
    let id = memory::create(call.process, physical, pages, Medium::Device)?;
    let rights = MAKER | Rights::READ | Rights::WRITE;
    give(call, Entry::new(ObjectKind::Memory, rights, id, 0))
}

pub(super) fn system_info(call: &mut Call<'_>) -> Result {
    require_system(call, Rights::INSPECT)?;
    let [_, info_out, stats_out, ..] = call.arguments;
    let machine = MACHINE.get().ok_or(Error::Unavailable)?;
    let info = SystemInfo {
        cpus: cpu::count().into(),
        ram_bytes: machine.ram_bytes,
        ecam: machine.ecam,
        ecam_first_bus: machine.ecam_buses.0.into(),
        ecam_last_bus: machine.ecam_buses.1.into(),
        tsc_per_ms: time::ticks_per_ms(),
        uptime_ns: time::now(),
    };
    user::write(call.held, call.process, info_out, &info)?;
    let stats = stats::collect(call.held);
    user::write(call.held, call.process, stats_out, &stats)?;
    Ok((0, 0))
}

pub(super) fn shutdown(call: &mut Call<'_>) -> Result {
    require_system(call, Rights::POWER)?;
    machine::power_off(call.arguments[1] as u32)
}

pub(super) fn debug_log(call: &mut Call<'_>) -> Result {
    let [text, bytes, ..] = call.arguments;
    let mut buffer = [0; 256];
    let line = &mut buffer[..(bytes as usize).min(256)];
    user::read_bytes(call.held, call.process, text, line)?;
    let mut clean = heapless::String::<256>::new();
    for chunk in line.utf8_chunks() {
        // A line is one line: a program must not be able to fake the lines of others.
        for character in chunk
            .valid()
            .chars()
            .filter(|character| !character.is_control())
        {
            let _ = clean.push(character);
        }
    }
    kernel_log::line(&call.process.name(), &clean);
    Ok((0, 0))
}

pub(super) fn read_log(call: &mut Call<'_>) -> Result {
    require_system(call, Rights::INSPECT)?;
    let [_, position, out, bytes, ..] = call.arguments;
    let mut buffer = [0; 1024];
    let part = &mut buffer[..(bytes as usize).min(1024)];
    let (count, next) = kernel_log::read(position, part);
    user::write_bytes(call.held, call.process, out, &part[..count])?;
    Ok((count as u64, next))
}
