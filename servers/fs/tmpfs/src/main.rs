//! Files in memory that survive the death of their server.
#![cfg_attr(bare, no_std, no_main)]

#[cfg(bare)]
extern crate alloc;

#[cfg(bare)]
libsys::entry!(main);

#[cfg(bare)]
fn main() -> i32 {
    match serve() {
        Ok(never) => never,
        Err(reason) => {
            libsys::debug_log(reason);
            1
        }
    }
}

/// Opens the file system in the state region and serves it for ever.
#[cfg(bare)]
fn serve() -> Result<i32, &'static str> {
    use alloc::rc::Rc;

    use libipc::Server;
    use libipc::proto::file_system::FileSystemDispatcher;
    use libsys::state::{MappedMemory, StateMemory, mapped};
    use libsys::{startup, time};
    use tmpfs::service::Service;
    use tmpfs::{MIN_BYTES, TmpFs};

    let startup = startup::read().ok_or("tmpfs: start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("tmpfs: no handle named self")?;
    let notification =
        startup::take(&startup, "notification").ok_or("tmpfs: no handle named notification")?;
    let memory = mapped().ok_or("tmpfs: no state region; give it one in its manifest")?;
    if memory.bytes() < MIN_BYTES {
        return Err("tmpfs: the state region is too small; give it more in its manifest");
    }
    let tree_bytes = TmpFs::<MappedMemory>::tree_bytes(memory.bytes());
    let (tree, data) = memory.split_at(tree_bytes);
    let (fs, report, dropped) =
        TmpFs::open(tree, data).map_err(|_| "tmpfs: the state region is too small")?;
    if report.has_losses() || dropped > 0 {
        libsys::runtime::debug_log_fmt(format_args!(
            "tmpfs: state: {report}; {dropped} disputed blocks dropped"
        ));
    }
    // There is no wall clock yet: file times count from boot.
    let now_s = || (time::now() / 1_000_000_000) as i64;
    let service = Rc::new(Service::new(fs, now_s));
    Server::new(endpoint, notification).run(FileSystemDispatcher::new(service))
}

#[cfg(not(bare))]
fn main() {}
