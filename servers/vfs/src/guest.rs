//! Wiring: mounts, sessions, and the state region.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::convert::Infallible;

use libipc::Server;
use libipc::proto::vfs::VfsDispatcher;
use libsys::startup;
use libsys::state::{MappedMemory, mapped};
use vfs::service::Service;
use vfs::{Mount, Remote, Vfs, parse_mount};

/// Mounts what the arguments say and serves it for ever.
pub(crate) fn serve() -> Result<Infallible, String> {
    let startup = startup::read().ok_or("start-up pages are damaged")?;
    let endpoint = startup::take(&startup, "self").ok_or("no handle named self")?;
    let notification =
        startup::take(&startup, "notification").ok_or("no handle named notification")?;
    let mut mounts = Vec::new();
    for argument in &startup.arguments {
        let (point, service) = parse_mount(argument).map_err(|bad| bad.to_string())?;
        let backend = Remote::new(service, startup::take(&startup, service));
        mounts.push(Mount::new(point, service, backend));
    }
    libsys::gate::announce(Vfs::<Remote, MappedMemory>::schema());
    let memory = mapped().ok_or("no state region; give it one in its manifest")?;
    let (vfs, report) = Vfs::open(mounts, memory).map_err(|_| "the state region is too small")?;
    report.log("open files");
    let mut server = Server::new(endpoint, notification);
    server.never_waits();
    let endpoint = server.endpoint();
    let service = Rc::new(Service::new(vfs, move |badge| endpoint.mint(badge)));
    let exports = Rc::clone(&service);
    server.on_export(move |schema| exports.export(schema));
    let resumes = Rc::clone(&service);
    server.on_resume(move || resumes.resume());
    let sessions = Rc::clone(&service);
    server.on_closed(move |badge| sessions.closed(badge));
    server.run(VfsDispatcher::new(service))
}
