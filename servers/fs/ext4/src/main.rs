//! The ext4 file system, read only: wiring to the block server and to the vfs.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;

#[cfg(bare)]
mod disk;
#[cfg(bare)]
mod dma;

#[cfg(bare)]
libsys::entry!(main);

#[cfg(bare)]
fn main() -> i32 {
    match serve() {
        Ok(never) => match never {},
        Err(why) => {
            log::error!("cannot serve: {why}");
            1
        }
    }
}

/// Serves the volume on the device named by the first argument.
#[cfg(bare)]
fn serve() -> Result<core::convert::Infallible, &'static str> {
    use alloc::rc::Rc;

    use ext4::service::Service;
    use libipc::Server;
    use libipc::proto::file_system::FileSystemDispatcher;
    use libsys::startup;

    let startup = startup::read().ok_or("the start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("no endpoint was given")?;
    let notification =
        startup::take(&startup, "notification").ok_or("no notification was given")?;
    let block = startup::take(&startup, "block").ok_or("no way to the block server was given")?;
    let memory =
        startup::take(&startup, "memory").ok_or("no way to the memory manager was given")?;
    let device = startup
        .arguments
        .into_iter()
        .next()
        .ok_or("no device is named")?;
    let server = Server::new(endpoint, notification);
    let opener = disk::Opener::new(server.events(), block, memory, device);
    server.run(FileSystemDispatcher::new(Rc::new(Service::new(opener))))
}

#[cfg(not(bare))]
fn main() {}
