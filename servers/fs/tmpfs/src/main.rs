//! Files in memory that survive the death of their server.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;

#[cfg(bare)]
libsys::entry!(main);

#[cfg(bare)]
fn main() -> i32 {
    let Err(reason) = serve();
    log::error!("cannot serve: {reason}");
    1
}

/// Opens the file system in the state region and serves it for ever.
#[cfg(bare)]
fn serve() -> Result<core::convert::Infallible, &'static str> {
    use alloc::rc::Rc;

    use libipc::Server;
    use libipc::proto::file_system::FileSystemDispatcher;
    use libsys::state::{MappedMemory, StateMemory, mapped};
    use libsys::{startup, time};
    use tmpfs::service::Service;
    use tmpfs::{MIN_BYTES, TmpFs};

    let startup = startup::read().ok_or("start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("no handle named self")?;
    let notification =
        startup::take(&startup, "notification").ok_or("no handle named notification")?;
    libsys::gate::announce(TmpFs::<MappedMemory>::schema());
    let memory = mapped().ok_or("no state region; give it one in its manifest")?;
    if memory.bytes() < MIN_BYTES {
        return Err("the state region is too small; give it more in its manifest");
    }
    let tree_bytes = TmpFs::<MappedMemory>::tree_bytes(memory.bytes());
    let (tree, data) = memory.split_at(tree_bytes);
    let (fs, report, dropped) =
        TmpFs::open(tree, data).map_err(|_| "the state region is too small")?;
    report.log("files");
    if dropped > 0 {
        log::error!("{dropped} blocks that two files claimed were dropped");
    }
    // There is no wall clock yet: file times count from boot.
    let now_s = || (time::now() / 1_000_000_000) as i64;
    let service = Rc::new(Service::new(fs, now_s));
    let mut server = Server::new(endpoint, notification);
    server.never_waits();
    server.run(FileSystemDispatcher::new(service))
}

#[cfg(not(bare))]
fn main() {}
