//! The interface of `init`: who may ask for what, and the answers.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use init::vault::Vault;
use libipc::Caller;
use libipc::proto::init::{
    InitError, InitServer, PAGE_OF_RINGS, PAGE_OF_SERVICES, ServiceInfo, ServiceStatistics,
};
use libsys::{Handle, Kind, Memory, Notification, Rights};
use skink_manifest::service::Grant;

use super::keeper::Keeper;
use super::setup::service_of_badge;

/// Something in the vault.
#[derive(Debug)]
enum Kept {
    Memory(Handle<Memory>),
    Notification(Handle<Notification>),
}

/// Answers calls.
#[derive(Debug)]
pub(crate) struct Control {
    keeper: Rc<Keeper>,
    vault: RefCell<Vault<Kept>>,
}

impl Control {
    /// Makes the server of the interface.
    pub(crate) fn new(keeper: Rc<Keeper>) -> Self {
        Control {
            keeper,
            vault: RefCell::default(),
        }
    }

    fn check(&self, caller: &Caller, grant: Grant) -> Result<(), InitError> {
        let kit = service_of_badge(caller.badge).and_then(|at| self.keeper.kits().get(at));
        match kit {
            Some(kit) if kit.service.rights.has(grant) => Ok(()),
            _ => Err(InitError::NotAllowed),
        }
    }

    fn find(&self, name: &str) -> Result<usize, InitError> {
        let position = self
            .keeper
            .kits()
            .iter()
            .position(|kit| kit.service.name == name);
        position.ok_or(InitError::NoSuchService)
    }

    fn put(&self, caller: &Caller, key: u64, kept: Kept) -> Result<(), InitError> {
        self.vault.borrow_mut().put(caller.badge, key, kept)
    }

    fn ring(&self, position: usize) -> Result<Option<Handle<Memory>>, InitError> {
        let Some(kit) = self.keeper.kits().get(position) else {
            return Ok(None);
        };
        let rights = Rights::READ | Rights::WRITE | Rights::TRANSFER | Rights::DUPLICATE;
        kit.log_ring.duplicate(rights).map(Some).map_err(refused)
    }
}

/// Makes a copy of a handle, to be moved to who asked for it.
fn copy<K: Kind>(handle: &Handle<K>) -> Result<Handle<K>, InitError> {
    handle.duplicate(Rights::ALL).map_err(refused)
}

fn refused(error: libsys::Error) -> InitError {
    log::warn!("handle not copied: {error}");
    InitError::Kernel
}

impl InitServer for Control {
    async fn services(&self, _: &Caller, first: u32) -> Result<Vec<ServiceInfo>, InitError> {
        let services = first as usize..self.keeper.kits().len();
        Ok(services
            .take(PAGE_OF_SERVICES)
            .filter_map(|at| self.keeper.info(at))
            .collect())
    }

    async fn statistics(&self, _: &Caller, name: String) -> Result<ServiceStatistics, InitError> {
        self.keeper
            .statistics(self.find(&name)?)
            .ok_or(InitError::NoSuchService)
    }

    async fn kill(&self, caller: &Caller, name: String) -> Result<(), InitError> {
        self.check(caller, Grant::Control)?;
        self.keeper.kill(self.find(&name)?)
    }

    async fn restart(&self, caller: &Caller, name: String) -> Result<(), InitError> {
        self.check(caller, Grant::Control)?;
        self.keeper.restart(self.find(&name)?)
    }

    async fn shutdown(&self, caller: &Caller, code: u32) -> Result<(), InitError> {
        self.check(caller, Grant::Control)?;
        Err(self.keeper.shutdown(code))
    }

    async fn vault_put_memory(
        &self,
        caller: &Caller,
        key: u64,
        memory: Handle<Memory>,
    ) -> Result<(), InitError> {
        self.put(caller, key, Kept::Memory(memory))
    }

    async fn vault_put_notification(
        &self,
        caller: &Caller,
        key: u64,
        notification: Handle<Notification>,
    ) -> Result<(), InitError> {
        self.put(caller, key, Kept::Notification(notification))
    }

    async fn vault_get_memory(
        &self,
        caller: &Caller,
        key: u64,
    ) -> Result<Handle<Memory>, InitError> {
        match self.vault.borrow().get(caller.badge, key) {
            Some(Kept::Memory(memory)) => copy(memory),
            _ => Err(InitError::NoSuchKey),
        }
    }

    async fn vault_get_notification(
        &self,
        caller: &Caller,
        key: u64,
    ) -> Result<Handle<Notification>, InitError> {
        match self.vault.borrow().get(caller.badge, key) {
            Some(Kept::Notification(notification)) => copy(notification),
            _ => Err(InitError::NoSuchKey),
        }
    }

    async fn vault_list(&self, caller: &Caller) -> Result<Vec<u64>, InitError> {
        Ok(self.vault.borrow().list(caller.badge))
    }

    async fn vault_remove(&self, caller: &Caller, key: u64) -> Result<(), InitError> {
        self.vault.borrow_mut().remove(caller.badge, key);
        Ok(())
    }

    async fn log_rings(
        &self,
        caller: &Caller,
        first: u32,
    ) -> Result<
        (
            Vec<String>,
            Option<Handle<Memory>>,
            Option<Handle<Memory>>,
            Option<Handle<Memory>>,
            Option<Handle<Memory>>,
        ),
        InitError,
    > {
        self.check(caller, Grant::LogReader)?;
        let first = first as usize;
        let kits = self.keeper.kits().iter().skip(first).take(PAGE_OF_RINGS);
        let names = kits.map(|kit| kit.service.name.clone()).collect();
        let ring = |at: usize| self.ring(first.saturating_add(at));
        Ok((names, ring(0)?, ring(1)?, ring(2)?, ring(3)?))
    }
}
