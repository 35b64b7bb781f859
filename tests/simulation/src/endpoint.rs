//! The kernel's part: requests wait in their callers, and outlive servers.

use std::cell::RefCell;
use std::fmt;
use std::rc::Rc;
use std::task::Context;

use libipc::loopback::Loopback;
use libipc::schema::Schema;
use libipc::server::{Arguments, Dispatch, Payload, Started};
use libipc::wire::{OutHandles, Status};

use crate::steps::{Place, Steps, When};

/// Starts an instance of a server from what its state region holds.
type Start = dyn Fn() -> Rc<Loopback>;

/// An endpoint with a service behind it that is started again whenever it dies.
pub struct Endpoint {
    name: &'static str,
    schema: &'static Schema,
    steps: Rc<Steps>,
    start: Box<Start>,
    instance: RefCell<Option<Rc<Loopback>>>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The reply to a request.
struct Reply {
    status: Status,
    payload: Vec<u8>,
}

impl Endpoint {
    /// Makes an endpoint for a service of one interface; `start` makes an instance.
    pub fn new(
        name: &'static str,
        schema: &'static Schema,
        steps: &Rc<Steps>,
        start: impl Fn() -> Rc<Loopback> + 'static,
    ) -> Rc<Self> {
        Rc::new(Endpoint {
            name,
            schema,
            steps: Rc::clone(steps),
            start: Box::new(start),
            instance: RefCell::new(None),
        })
    }

    /// Returns the way of programs to it; their badge is set there.
    #[must_use]
    pub fn for_programs(self: &Rc<Self>) -> Rc<Loopback> {
        self.way(Caller::Program)
    }

    /// Returns the way of another server to it: calls are steps of that one too.
    #[must_use]
    pub fn for_server(self: &Rc<Self>) -> Rc<Loopback> {
        self.way(Caller::Server)
    }

    fn way(self: &Rc<Self>, caller: Caller) -> Rc<Loopback> {
        Loopback::new(Way {
            endpoint: Rc::clone(self),
            caller,
        })
    }

    /// Carries a request out, whoever dies meanwhile.
    fn call(&self, method: u16, mut caller: libipc::Caller, payload: &[u8]) -> Reply {
        let label = self.schema.label(method);
        loop {
            if let Ok(reply) = self
                .steps
                .run(self.name, || self.serve(label, caller, payload))
            {
                let died = self.steps.run(self.name, || {
                    self.steps.take(Place::Reply, When::After);
                });
                if died.is_err() {
                    self.end();
                }
                return reply;
            }
            self.end();
            caller.redelivered = self.steps.marks_redelivery();
        }
    }

    /// What an instance does with a request, up to its reply.
    fn serve(&self, label: u32, caller: libipc::Caller, payload: &[u8]) -> Reply {
        let instance = self.instance();
        self.steps.take(Place::Receive, When::Before);
        self.steps.take(Place::Receive, When::After);
        let token = instance.submit(label, caller, payload, OutHandles::new());
        let reply = instance
            .take(token)
            .expect("these servers answer at once or call others");
        self.steps.take(Place::Reply, When::Before);
        Reply {
            status: Status::from_label(reply.label).expect("a dispatcher says one of these"),
            payload: reply.payload,
        }
    }

    fn instance(&self) -> Rc<Loopback> {
        if let Some(instance) = &*self.instance.borrow() {
            return Rc::clone(instance);
        }
        self.steps.take(Place::Recover, When::Before);
        let instance = (self.start)();
        self.steps.take(Place::Recover, When::After);
        *self.instance.borrow_mut() = Some(Rc::clone(&instance));
        instance
    }

    /// Ends the instance: only its state region is left of it.
    fn end(&self) {
        *self.instance.borrow_mut() = None;
    }
}

/// A sender to an endpoint.
struct Way {
    endpoint: Rc<Endpoint>,
    caller: Caller,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    Program,
    Server,
}

impl Way {
    fn step(&self, when: When) {
        if self.caller == Caller::Server {
            self.endpoint.steps.take(Place::Call, when);
        }
    }
}

impl Dispatch for Way {
    fn schema(&self) -> &'static Schema {
        self.endpoint.schema
    }

    fn start(
        &self,
        method: u16,
        request: Arguments<'_>,
        _context: &mut Context<'_>,
    ) -> Result<Started, Status> {
        let Payload::Bytes(payload) = request.payload else {
            return Err(Status::Malformed);
        };
        self.step(When::Before);
        let reply = self.endpoint.call(method, request.caller, payload);
        // The other one is done, and its reply finds nobody.
        self.step(When::During);
        let answer = request.output.encoded(reply.status, &reply.payload);
        self.step(When::After);
        Ok(Started::Done(answer))
    }
}
