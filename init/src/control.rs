//! The interface of `init`: who may ask for what, and the answers.

use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use libipc::Caller;
use libipc::proto::init::{
    InitError, InitServer, PAGE_OF_RINGS, Seal, ServiceInfo, ServiceStatistics, ServiceVersion,
    SwapReport,
};
use libipc::stream::Batch;
use libsys::{Handle, Kind, Memory, Notification};
use skink_manifest::Service;
use skink_manifest::service::Grant;

use crate::ledger;
use crate::swap::Ticket;
use crate::vault::Vault;

/// The version that a service is to be swapped to.
#[derive(Debug)]
pub enum Source {
    /// An image of the boot bundle.
    Image(String),
    /// An image in memory.
    Memory {
        /// Where it is, from the start on.
        memory: Handle<Memory>,
        /// Its length.
        bytes: u64,
        /// Its SHA-256.
        digest: [u8; 32],
    },
    /// The version that ran before.
    Previous,
}

/// Name by which `init` itself is asked for.
pub const OWN_NAME: &str = "init";

/// What the interface needs of the rest of `init`. Services are named by their position; the
/// position behind the last one stands for `init` itself, which has no manifest.
pub trait Services {
    /// Returns the manifest of a service.
    fn manifest(&self, service: usize) -> Option<&Service>;

    /// Returns what a service looks like now.
    fn info(&self, service: usize) -> Option<ServiceInfo>;

    /// Returns how a service has fared.
    fn statistics(&self, service: usize) -> Option<ServiceStatistics>;

    /// Ends a service; once for each request, however often `init` died meanwhile.
    ///
    /// # Errors
    ///
    /// `NotRunning`, `Critical`.
    fn kill(&self, service: usize, caller: &Caller) -> Result<(), InitError>;

    /// Hears a report of one service about another.
    ///
    /// # Errors
    ///
    /// `NotAllowed`, `NotRunning`, `Critical`.
    fn report(
        &self,
        by: usize,
        about: usize,
        method: &str,
        caller: &Caller,
    ) -> Result<(), InitError>;

    /// Starts a service afresh; once for each request, however often `init` died meanwhile.
    ///
    /// # Errors
    ///
    /// `Critical`.
    fn restart(&self, service: usize, caller: &Caller) -> Result<(), InitError>;

    /// Notes what a client is going to keep under a key, for the next instance of `init`.
    ///
    /// # Errors
    ///
    /// `Kernel` when there is no room to note it.
    fn note(&self, client: u64, key: u64, kept: Option<ledger::Kept>) -> Result<(), InitError>;

    /// Returns what is noted that a client keeps under a key.
    fn noted(&self, client: u64, key: u64) -> Option<ledger::Kept>;

    /// Returns the keys that are noted of a client.
    fn noted_keys(&self, client: u64) -> Vec<u64>;

    /// Begins to replace the program of a service, or has it begin when the service serves; the
    /// ticket tells what came of it. A request that an earlier instance of `init` committed is not
    /// begun again.
    ///
    /// # Errors
    ///
    /// `NotRunning`, `Critical`, `Busy`, `NoSuchImage`, `NoPreviousVersion`, `NotSwappable`.
    fn swap(&self, service: usize, source: Source, caller: &Caller) -> Result<Ticket, InitError>;

    /// Returns which program a service runs.
    fn version(&self, service: usize) -> Option<ServiceVersion>;

    /// Powers the machine off; returns why it did not.
    fn shutdown(&self, code: u32) -> InitError;

    /// Returns another handle to the log ring of a service.
    ///
    /// # Errors
    ///
    /// `Kernel`.
    fn log_ring(&self, service: usize) -> Result<Handle<Memory>, InitError>;

    /// Makes another handle to an object.
    ///
    /// # Errors
    ///
    /// `Kernel`.
    fn copy<K: Kind>(&self, handle: &Handle<K>) -> Result<Handle<K>, InitError>;
}

/// Returns the badge by which a service is known to `init` and to those it calls: the same for
/// all its instances, so that one that was restarted finds what the last one had.
pub const fn badge_of_service(service: usize) -> u64 {
    service as u64 + 1
}

/// Returns the service that a badge stands for.
pub fn service_of_badge(badge: u64) -> Option<usize> {
    usize::try_from(badge).ok()?.checked_sub(1)
}

/// Something in the vault.
#[derive(Debug)]
pub enum Kept {
    /// A memory object.
    Memory(Handle<Memory>),
    /// A notification.
    Notification(Handle<Notification>),
}

impl Kept {
    fn noted(&self) -> ledger::Kept {
        match self {
            Kept::Memory(memory) => ledger::Kept::Memory(memory.raw().0),
            Kept::Notification(notification) => ledger::Kept::Notification(notification.raw().0),
        }
    }
}

/// Answers calls.
#[derive(Debug)]
pub struct Control<S> {
    services: Rc<S>,
    vault: RefCell<Vault<Kept>>,
}

impl<S: Services> Control<S> {
    /// Makes the server of the interface, with what is in the vault already.
    pub fn new(services: Rc<S>, vault: Vault<Kept>) -> Self {
        Control {
            services,
            vault: RefCell::new(vault),
        }
    }

    /// Fails unless the caller's manifest has the grant.
    fn check(&self, caller: &Caller, grant: Grant) -> Result<(), InitError> {
        let manifest = service_of_badge(caller.badge).and_then(|at| self.services.manifest(at));
        match manifest {
            Some(manifest) if manifest.rights.has(grant) => Ok(()),
            _ => Err(self.not_allowed(caller, grant)),
        }
    }

    /// Looks at all manifests before a caller is refused, and ends `init` if its own grants what it
    /// wants.
    #[cold]
    #[inline(never)]
    fn not_allowed(&self, caller: &Caller, grant: Grant) -> InitError {
        let manifests = (0..).map_while(|at| Some((at, self.services.manifest(at)?)));
        let is_granted = manifests
            .filter(|(at, _)| badge_of_service(*at) == caller.badge)
            .any(|(_, manifest)| manifest.rights.grants.contains(&grant));
        assert!(!is_granted, "{:#x} was not allowed {grant:?}", caller.badge);
        InitError::NotAllowed
    }

    /// Finds the service of a request by its name, of which `seal_of` makes the seal of the request.
    fn find(
        &self,
        name: &str,
        seal: Seal,
        seal_of: impl Fn(&str) -> Seal,
    ) -> Result<usize, InitError> {
        let names = self.names(0).chain([OWN_NAME]);
        let found = names.enumerate().find(|(_, known)| *known == name);
        let is_meant = seal == found.map_or_else(|| seal_of(name), |(_, known)| seal_of(known));
        match found {
            _ if !is_meant => Err(InitError::BrokenSeal),
            Some((position, _)) => Ok(position),
            None => Err(self.not_found(name)),
        }
    }

    /// Compares a name with all others in another way before it is said that there is no such
    /// service, and ends `init` if there is one: a damaged search would say so of each.
    #[cold]
    fn not_found(&self, name: &str) -> InitError {
        let is_it = |known: &str| known.bytes().rev().eq(name.bytes().rev());
        assert!(!self.names(0).any(is_it), "{name} was not found");
        InitError::NoSuchService
    }

    /// Returns the names of the services from the `first` on.
    fn names(&self, first: usize) -> impl Iterator<Item = &str> {
        (first..)
            .map_while(|at| self.services.manifest(at))
            .map(|manifest| manifest.name.as_str())
    }

    fn put(&self, caller: &Caller, key: u64, kept: Kept) -> Result<(), InitError> {
        let mut vault = self.vault.borrow_mut();
        vault.check(caller.badge, key)?;
        // What was there is closed only after nothing names it any more.
        let noted = kept.noted();
        self.services.note(caller.badge, key, Some(noted))?;
        vault.put(caller.badge, key, kept)?;
        self.check_kept(&vault, (caller.badge, key), Some(noted));
        Ok(())
    }

    /// Looks whether something, or nothing, is under a key, and is noted.
    ///
    /// # Panics
    ///
    /// When it is not: the next instance takes up what is noted.
    #[inline(never)]
    fn check_kept(&self, vault: &Vault<Kept>, place: (u64, u64), kept: Option<ledger::Kept>) {
        let found = vault.get(place.0, place.1).map(Kept::noted);
        let noted = self.services.noted(place.0, place.1);
        assert!(
            found == kept && noted == kept,
            "the vault does not hold {kept:?} under key {:#x} of {:#x}",
            place.1,
            place.0
        );
    }

    /// Returns what is under a key, or that there is nothing, as it is noted too.
    fn kept<'a>(&self, vault: &'a Vault<Kept>, caller: &Caller, key: u64) -> Option<&'a Kept> {
        let kept = vault.get(caller.badge, key);
        self.check_kept(vault, (caller.badge, key), kept.map(Kept::noted));
        kept
    }

    async fn swap_to(
        &self,
        caller: &Caller,
        service: Result<usize, InitError>,
        source: Source,
    ) -> Result<SwapReport, InitError> {
        self.check(caller, Grant::Control)?;
        let ticket = self.services.swap(service?, source, caller)?;
        ticket.report().await
    }

    fn ring(&self, service: usize) -> Result<Option<Handle<Memory>>, InitError> {
        match self.services.manifest(service) {
            Some(_) => self.services.log_ring(service).map(Some),
            None => Ok(None),
        }
    }
}

impl<S: Services> InitServer for Control<S> {
    async fn services(&self, _: &Caller, from: u32) -> Result<Batch<ServiceInfo, u32>, InitError> {
        let rest = (from..=u32::MAX).map_while(|at| Some((self.services.info(at as usize)?, at)));
        Ok(Batch::of(rest))
    }

    async fn statistics(
        &self,
        _: &Caller,
        name: String,
        seal: Seal,
    ) -> Result<ServiceStatistics, InitError> {
        let service = self.find(&name, seal, Seal::text)?;
        let found = self.services.statistics(service);
        Ok(found.expect("each service has statistics"))
    }

    async fn kill(&self, caller: &Caller, name: String, seal: Seal) -> Result<(), InitError> {
        self.check(caller, Grant::Control)?;
        let service = self.find(&name, seal, Seal::text)?;
        self.services.kill(service, caller)
    }

    async fn restart(&self, caller: &Caller, name: String, seal: Seal) -> Result<(), InitError> {
        self.check(caller, Grant::Control)?;
        let service = self.find(&name, seal, Seal::text)?;
        self.services.restart(service, caller)
    }

    async fn report(
        &self,
        caller: &Caller,
        name: String,
        method: String,
        seal: Seal,
    ) -> Result<(), InitError> {
        let by = service_of_badge(caller.badge).ok_or(InitError::NotAllowed)?;
        let about = self.find(&name, seal, |name| Seal::texts(name, &method))?;
        self.services.report(by, about, &method, caller)
    }

    async fn shutdown(&self, caller: &Caller, code: u32) -> Result<(), InitError> {
        self.check(caller, Grant::Control)?;
        Err(self.services.shutdown(code))
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
        let vault = self.vault.borrow();
        match self.kept(&vault, caller, key) {
            Some(Kept::Memory(memory)) => self.services.copy(memory),
            _ => Err(InitError::NoSuchKey),
        }
    }

    async fn vault_get_notification(
        &self,
        caller: &Caller,
        key: u64,
    ) -> Result<Handle<Notification>, InitError> {
        let vault = self.vault.borrow();
        match self.kept(&vault, caller, key) {
            Some(Kept::Notification(notification)) => self.services.copy(notification),
            _ => Err(InitError::NoSuchKey),
        }
    }

    async fn vault_list(&self, caller: &Caller) -> Result<Vec<u64>, InitError> {
        let keys = self.vault.borrow().list(caller.badge);
        let is_noted = keys == self.services.noted_keys(caller.badge);
        assert!(is_noted, "the vault holds other keys than are noted");
        Ok(keys)
    }

    async fn vault_remove(&self, caller: &Caller, key: u64) -> Result<(), InitError> {
        let mut vault = self.vault.borrow_mut();
        if vault.get(caller.badge, key).is_some() {
            self.services.note(caller.badge, key, None)?;
        }
        vault.remove(caller.badge, key);
        self.check_kept(&vault, (caller.badge, key), None);
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
        let names = self
            .names(first)
            .take(PAGE_OF_RINGS)
            .map(Into::into)
            .collect();
        let ring = |at: usize| self.ring(first.saturating_add(at));
        Ok((names, ring(0)?, ring(1)?, ring(2)?, ring(3)?))
    }

    async fn swap(
        &self,
        caller: &Caller,
        name: String,
        image: String,
        seal: Seal,
    ) -> Result<SwapReport, InitError> {
        let service = self.find(&name, seal, |name| Seal::texts(name, &image));
        self.swap_to(caller, service, Source::Image(image)).await
    }

    async fn swap_memory(
        &self,
        caller: &Caller,
        name: String,
        memory: Handle<Memory>,
        bytes: u64,
        digest: [u8; 32],
        seal: Seal,
    ) -> Result<SwapReport, InitError> {
        let source = Source::Memory {
            memory,
            bytes,
            digest,
        };
        let service = self.find(&name, seal, |name| Seal::image(name, bytes, digest));
        self.swap_to(caller, service, source).await
    }

    async fn rollback(
        &self,
        caller: &Caller,
        name: String,
        seal: Seal,
    ) -> Result<SwapReport, InitError> {
        let service = self.find(&name, seal, Seal::text);
        self.swap_to(caller, service, Source::Previous).await
    }

    async fn versions(
        &self,
        _: &Caller,
        from: u32,
    ) -> Result<Batch<ServiceVersion, u32>, InitError> {
        let rest =
            (from..=u32::MAX).map_while(|at| Some((self.services.version(at as usize)?, at)));
        Ok(Batch::of(rest))
    }
}

#[cfg(test)]
mod tests;
