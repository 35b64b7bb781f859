//! The attributes of methods: what a method is, and its restart contract.

use syn::parse::Parser as _;
use syn::spanned::Spanned as _;
use syn::{Attribute, Error, Pat, Path, Result, TraitItemFn};

/// What happens to a request whose server died while it had it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Contract {
    Idempotent,
    ExactlyOnce,
    FailsOnRestart,
}

impl Contract {
    const ALL: [Contract; 3] = [
        Contract::Idempotent,
        Contract::ExactlyOnce,
        Contract::FailsOnRestart,
    ];

    /// The attribute in the trait.
    pub(crate) fn attribute(self) -> &'static str {
        match self {
            Contract::Idempotent => "idempotent",
            Contract::ExactlyOnce => "exactly_once",
            Contract::FailsOnRestart => "fails_on_restart",
        }
    }

    /// The variant of `libipc::schema::Contract`.
    pub(crate) fn variant(self) -> &'static str {
        match self {
            Contract::Idempotent => "Idempotent",
            Contract::ExactlyOnce => "ExactlyOnce",
            Contract::FailsOnRestart => "FailsOnRestart",
        }
    }
}

/// What the attribute of a method says that it is.
pub(crate) enum Marker {
    /// A call with this restart contract.
    Call(Contract),
    /// A call for one batch of a stream.
    Stream,
    /// An entry of a ring.
    Ring,
}

impl Marker {
    fn new(attribute: &Attribute) -> Option<Marker> {
        let is = |name| attribute.path().is_ident(name);
        let mut contracts = Contract::ALL.into_iter();
        if let Some(contract) = contracts.find(|contract| is(contract.attribute())) {
            Some(Marker::Call(contract))
        } else if is("stream") {
            Some(Marker::Stream)
        } else {
            is("ring").then_some(Marker::Ring)
        }
    }
}

/// The attribute that names what holds for every reply.
const ENSURES: &str = "ensures";
/// The attribute that names what makes the seal of a request.
const SEALED: &str = "sealed";

/// Finds the function that tells whether a reply can be true, if the method names one.
pub(crate) fn ensures(function: &TraitItemFn) -> Result<Option<Path>> {
    function_of(function, ENSURES)
}

/// Finds the function that makes the seal of a request, if the method names one.
pub(crate) fn sealed(function: &TraitItemFn) -> Result<Option<Path>> {
    function_of(function, SEALED)
}

/// Finds the function that an attribute of a method names.
fn function_of(method: &TraitItemFn, attribute: &str) -> Result<Option<Path>> {
    let attributes = method.attrs.iter();
    let mut found = attributes.filter(|found| found.path().is_ident(attribute));
    let first = found.next().map(Attribute::parse_args).transpose()?;
    match found.next() {
        Some(second) => Err(Error::new(
            second.span(),
            format!(
                "method `{}` has two #[{attribute}]: make one function of them",
                method.sig.ident
            ),
        )),
        None => Ok(first),
    }
}

/// The attribute of an interface that says which errors no server in order answers with.
const SUSPECT: &str = "suspect";
/// Has servers compare the replies that they write and read.
const COMPARED: &str = "compared";

/// What stands before an interface.
#[derive(Default)]
pub(crate) struct Attributes {
    pub(crate) docs: Vec<Attribute>,
    /// The errors that speak against the server that answers with them.
    pub(crate) suspect: Option<Pat>,
    /// Whether servers compare the replies that they write and read.
    pub(crate) is_compared: bool,
}

impl Attributes {
    pub(crate) fn of_interface(attributes: &[Attribute]) -> Result<Attributes> {
        let mut found = Attributes::default();
        for attribute in attributes {
            let path = attribute.path();
            if path.is_ident("doc") {
                found.docs.push(attribute.clone());
            } else if path.is_ident(COMPARED) {
                attribute.meta.require_path_only()?;
                found.is_compared = true;
            } else if !path.is_ident(SUSPECT) {
                return Err(Error::new(
                    attribute.span(),
                    "an interface has no attributes but #[compared] and #[suspect(pattern of errors)]",
                ));
            } else if found.suspect.is_some() {
                return Err(Error::new(
                    attribute.span(),
                    "an interface has one #[suspect]: join the patterns by `|`",
                ));
            } else {
                let tokens = attribute.meta.require_list()?.tokens.clone();
                found.suspect = Some(Pat::parse_multi_with_leading_vert.parse2(tokens)?);
            }
        }
        Ok(found)
    }
}

/// Finds what a method is.
pub(crate) fn marker(function: &TraitItemFn) -> Result<Marker> {
    let name = &function.sig.ident;
    let mut found = None;
    for attribute in &function.attrs {
        let is_other = ["doc", ENSURES, SEALED].map(|other| attribute.path().is_ident(other));
        if is_other.contains(&true) {
            continue;
        }
        let refused = |why: &str| {
            Err(Error::new(
                attribute.span(),
                format!("method `{name}` {why}"),
            ))
        };
        let Some(marker) = Marker::new(attribute) else {
            return refused("has an attribute that interfaces do not know: remove it");
        };
        match (&found, &marker) {
            (None, _) => {}
            (Some(Marker::Call(_)), Marker::Call(_)) => {
                return refused("has two restart contracts: keep one");
            }
            (Some(Marker::Stream), Marker::Call(_)) | (Some(Marker::Call(_)), Marker::Stream) => {
                return refused(
                    "is a stream and has a restart contract: remove that; each batch is asked for \
                     by its cursor and may be asked for again",
                );
            }
            (Some(Marker::Ring), Marker::Call(_)) | (Some(Marker::Call(_)), Marker::Ring) => {
                return refused(
                    "is a ring method and has a restart contract: remove that; entries that are \
                     not completed are done again",
                );
            }
            _ => return refused("is a stream or a ring method: keep one attribute"),
        }
        found = Some(marker);
    }
    found.ok_or_else(|| {
        Error::new(
            name.span(),
            format!(
                "method `{name}` needs a restart contract: put #[idempotent] (a redelivered \
                 request is run again), #[exactly_once] (it gets its stored reply) or \
                 #[fails_on_restart] (the client gets `Failure::Restarted`) on it, or #[stream] \
                 or #[ring]"
            ),
        )
    })
}
