//! Wiring: the interface, the machine's configuration space, and the claims in the state region.

use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::convert::Infallible;

use libipc::proto::pci::{
    Address, BusMaster, Capability, Claim, DeviceInfo, PciDispatcher, PciError, PciSchema,
    PciServer,
};
use libipc::schema::Interface;
use libipc::stream::Batch;
use libipc::{Caller, Server};
use libsys::abi::PAGE_SIZE;
use libsys::mappings::Mapping;
use libsys::state::{self, MappedMemory, Purpose, Region};
use libsys::{Handle, Interrupt, MapFlags, Memory, startup};
use pci::{
    Bar, Claimed, Claims, ENTRY_BYTES, Function, Msix, Record, are_in_place, bars, capabilities,
    scan,
};

use crate::ecam::Ecam;

struct Pci {
    space: Ecam,
    devices: Vec<DeviceInfo>,
    claims: RefCell<Region<Claims, MappedMemory>>,
}

/// Serves until the endpoint is gone.
pub(crate) fn serve() -> Result<Infallible, &'static str> {
    libsys::log_ring::init(log::LevelFilter::Info);
    let startup = startup::read().ok_or("the start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("no endpoint was given")?;
    let notification =
        startup::take(&startup, "notification").ok_or("no notification was given")?;
    let system: Handle<libsys::System> =
        startup::take(&startup, "system").ok_or("no right to the machine was given")?;
    let (claims, _) = state::open_mapped("claims")?;
    // The configuration space belongs to the version that serves.
    libipc::gate::pass(&[PciSchema::SCHEMA], || Ok(()));
    let (info, _) = system
        .system_info()
        .map_err(|_| "the machine tells nothing about itself")?;
    let space = Ecam::new(system, &info).ok_or("the machine has no PCI Express registers")?;
    let (first, last) = space.buses();
    let devices = scan(&space, first, last);
    log::info!(
        "{} functions on buses {first:02x} to {last:02x}",
        devices.len()
    );

    let pci = Rc::new(Pci {
        space,
        devices,
        claims: RefCell::new(claims),
    });
    let mut server = Server::new(endpoint, notification);
    server.never_waits();
    server.keep_state({
        let pci = Rc::clone(&pci);
        move |f| f(&mut pci.claims.borrow_mut())
    });
    server.on_closed({
        let pci = Rc::clone(&pci);
        move |badge| pci.release_all(badge)
    });
    server.run(PciDispatcher::new(pci))
}

impl Pci {
    fn function(&self, address: Address) -> Function<'_, Ecam> {
        Function::new(&self.space, address)
    }

    fn msix(&self, address: Address) -> Option<Msix> {
        Msix::find(&capabilities(&self.function(address)))
    }

    /// Makes a device harmless: it moves no data and raises no interrupts.
    fn quiesce(&self, address: Address) {
        let function = self.function(address);
        function.set_bus_master(BusMaster::Off);
        if let Some(msix) = self.msix(address) {
            msix.disable(&function);
        }
    }

    /// Returns where the registers of a device lie. They are measured once only: a driver that was
    /// restarted claims its device again, and each time that registers come and go disturbs the
    /// whole machine. (QEMU up to 8.0 then even sends accesses of other CPUs, to their interrupt
    /// controllers for example, to the wrong device now and then.)
    fn ranges(&self, address: Address) -> [Option<Bar>; 6] {
        let function = self.function(address);
        let known = self.claims.borrow().state().at(address);
        known
            .map(|claimed| claimed.bars())
            .filter(|known| are_in_place(&function, known))
            .unwrap_or_else(|| bars(&function))
    }

    fn record(&self, record: Record, purpose: Purpose) -> Result<(), PciError> {
        self.claims
            .borrow_mut()
            .append(record, purpose)
            .map_err(|_| PciError::TooMany)
    }

    fn claimed(&self, caller: &Caller, claim: Claim) -> Result<(Address, Claimed), PciError> {
        self.claims.borrow().state().of(claim, caller.badge)
    }

    fn release_all(&self, badge: u64) {
        let all = self.claims.borrow().state().all_of(badge);
        for address in all {
            self.quiesce(address);
            if let Err(error) = self.record(Record::Released(address), Purpose::Shrink) {
                log::error!("{address} not given back: {error}");
            }
        }
    }

    /// Returns what is known about a device by now.
    fn describe(&self, device: &DeviceInfo) -> DeviceInfo {
        let claimed = self.claims.borrow().state().at(device.address);
        let mut info = DeviceInfo {
            is_claimed: claimed.is_some(),
            ..*device
        };
        for (index, bytes) in (0..).zip(&mut info.bar_bytes) {
            *bytes = claimed
                .and_then(|claimed| claimed.bar(index))
                .map_or(0, |bar| bar.bytes);
        }
        info
    }

    /// Returns an object for the registers behind a base address register.
    fn registers(&self, bar: &Bar) -> Result<Handle<Memory>, PciError> {
        let page = PAGE_SIZE as u64;
        // A page may hold registers of several devices when they are smaller than it.
        if !bar.address.is_multiple_of(page) {
            return Err(PciError::NoSuchResource);
        }
        let pages = bar.bytes.div_ceil(page);
        self.space
            .system()
            .device_memory(bar.address, pages)
            .map_err(|error| {
                log::error!("registers at {:#x} refused: {error}", bar.address);
                PciError::Refused
            })
    }

    /// Has an entry of the MSI-X table raise a new interrupt.
    fn connect(
        &self,
        msix: &Msix,
        claimed: &Claimed,
        vector: u16,
    ) -> Result<Handle<Interrupt>, PciError> {
        let entry = msix.entry(vector).ok_or(PciError::NoSuchResource)?;
        let bar = claimed.bar(msix.bar).ok_or(PciError::Damaged)?;
        if !msix.fits(&bar) {
            return Err(PciError::Damaged);
        }
        let refused = |error| {
            log::error!("interrupt {vector} refused: {error}");
            PciError::Refused
        };
        let page = PAGE_SIZE as u64;
        let table = self.registers(&bar)?;
        let flags = MapFlags::READ | MapFlags::WRITE;
        // Entries do not cross pages: their size divides that of a page.
        debug_assert!(page.is_multiple_of(ENTRY_BYTES));
        let table = Mapping::map_part(&table, entry / page, 1, flags).map_err(refused)?;
        let (interrupt, address, data) = self.space.system().create_msi().map_err(refused)?;
        for (offset, value) in Msix::program(address, data) {
            table
                .write_u32((entry % page + offset) as usize, value)
                .map_err(refused)?;
        }
        Ok(interrupt)
    }
}

impl PciServer for Pci {
    async fn devices(
        &self,
        _caller: &Caller,
        from: u32,
    ) -> Result<Batch<DeviceInfo, u32>, PciError> {
        let rest = (0..).zip(&self.devices).skip(from as usize);
        Ok(Batch::of(
            rest.map(|(at, device)| (self.describe(device), at)),
        ))
    }

    async fn claim(
        &self,
        caller: &Caller,
        vendor: u16,
        device: u16,
        instance: u32,
    ) -> Result<(Claim, DeviceInfo), PciError> {
        let mut matching = self
            .devices
            .iter()
            .filter(|info| (info.vendor, info.device) == (vendor, device));
        let info = matching.nth(instance as usize).ok_or(PciError::NotFound)?;
        let address = info.address;
        self.claims
            .borrow()
            .state()
            .check_free(address, caller.badge)?;
        self.quiesce(address);
        let function = self.function(address);
        let bars = self.ranges(address);
        function.enable_memory();
        self.record(Record::claimed(address, caller.badge, bars), Purpose::Grow)?;
        Ok((Claims::name(address), self.describe(info)))
    }

    async fn release(&self, caller: &Caller, claim: Claim) -> Result<(), PciError> {
        let address = match self.claimed(caller, claim) {
            Ok((address, _)) => address,
            // A redelivered request may have come that far before.
            Err(_) if caller.redelivered => return Ok(()),
            Err(error) => return Err(error),
        };
        self.quiesce(address);
        self.record(Record::Released(address), Purpose::Shrink)
    }

    async fn bar(
        &self,
        caller: &Caller,
        claim: Claim,
        index: u8,
    ) -> Result<Handle<Memory>, PciError> {
        let (_, claimed) = self.claimed(caller, claim)?;
        self.registers(&claimed.bar(index).ok_or(PciError::NoSuchResource)?)
    }

    async fn capabilities(
        &self,
        caller: &Caller,
        claim: Claim,
    ) -> Result<Vec<Capability>, PciError> {
        let (address, _) = self.claimed(caller, claim)?;
        let list = capabilities(&self.function(address));
        Ok(list
            .into_iter()
            .map(|raw| Capability {
                id: raw.id,
                bytes: raw.bytes,
            })
            .collect())
    }

    async fn interrupt(
        &self,
        caller: &Caller,
        claim: Claim,
        vector: u16,
    ) -> Result<Handle<Interrupt>, PciError> {
        let (address, claimed) = self.claimed(caller, claim)?;
        let msix = self.msix(address).ok_or(PciError::NoSuchResource)?;
        let interrupt = self.connect(&msix, &claimed, vector)?;
        msix.enable(&self.function(address));
        Ok(interrupt)
    }

    async fn set_bus_master(
        &self,
        caller: &Caller,
        claim: Claim,
        to: BusMaster,
    ) -> Result<(), PciError> {
        let (address, _) = self.claimed(caller, claim)?;
        self.function(address).set_bus_master(to);
        Ok(())
    }
}
