//! Reads the trait and checks that it can be an interface.

use std::collections::BTreeSet;

use proc_macro2::{Span, TokenStream};
use quote::ToTokens as _;
use syn::parse::Parser as _;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemTrait, LitInt, MetaNameValue, Pat, Path,
    PathArguments, Result, ReturnType, Token, TraitItem, TraitItemFn, Type, Visibility,
};

use crate::marker::{Attributes, Contract, Marker, ensures, marker, sealed};
use crate::ring::{Ring, RingMethod, check_results};
use crate::stream::Stream;

/// Most handles in a message (`skink_abi::MAX_HANDLES`).
const MAX_HANDLES: usize = 4;
/// Most values besides handles in a message: the longest tuple that serde knows.
const MAX_VALUES: usize = 16;
/// The last number is that of the handshake.
const MAX_METHODS: usize = 0xffff;
/// Methods of every client.
const RESERVED_NAMES: [&str; 5] = [
    "connect",
    "new_unchecked",
    "from_client",
    "with_deadline",
    "client",
];

/// A checked interface.
pub(crate) struct Interface {
    pub(crate) name: Ident,
    pub(crate) visibility: Visibility,
    pub(crate) version: u32,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) methods: Vec<Method>,
    pub(crate) ring: Ring,
    /// Errors that no server in order answers with.
    pub(crate) suspect: Option<Pat>,
    /// Whether servers compare the replies that they write and read.
    pub(crate) is_compared: bool,
}

/// A method of the interface that is called.
pub(crate) struct Method {
    pub(crate) name: Ident,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) contract: Contract,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) ok: Output,
    pub(crate) error: Type,
    /// What it is a stream of. The cursor is then the last argument, the batch the output.
    pub(crate) stream: Option<Stream>,
    /// What tells whether a reply can be true.
    pub(crate) ensures: Option<Path>,
    /// What makes the last argument of the others.
    pub(crate) sealed: Option<Path>,
    /// The signature as text, for the schema hash.
    pub(crate) signature: String,
}

/// An argument of a method.
pub(crate) struct Argument {
    pub(crate) name: Ident,
    pub(crate) kind: ArgumentKind,
}

/// How an argument travels.
pub(crate) enum ArgumentKind {
    /// A value that the client gives away.
    Owned(Type),
    /// A value that the client lends (`&T`).
    Borrowed(Type),
    /// `&str`.
    Text,
    /// `&[u8]`.
    Bytes,
    /// `&[T]`.
    Slice(Type),
    /// `Handle<K>` or `Option<Handle<K>>`.
    Handle(Box<HandleType>),
}

/// A handle in a message.
pub(crate) struct HandleType {
    /// `Handle<K>`, as the trait writes it.
    pub(crate) handle: Type,
    /// `K`.
    pub(crate) kind: Type,
    pub(crate) is_optional: bool,
    pub(crate) is_moved: bool,
}

/// What a method returns when all is well.
pub(crate) enum Output {
    /// One value or handle.
    Single(Box<OutputPart>),
    /// A tuple.
    Tuple(Vec<OutputPart>),
}

impl Output {
    pub(crate) fn parts(&self) -> &[OutputPart] {
        match self {
            Output::Single(part) => core::slice::from_ref(&**part),
            Output::Tuple(parts) => parts,
        }
    }
}

/// A part of what a method returns.
pub(crate) enum OutputPart {
    Value(Type),
    /// `Vec<u8>`, as the trait writes it: travels as one run of bytes.
    Bytes(Type),
    Handle(Box<HandleType>),
}

/// What stands in the attribute of the interface.
pub(crate) struct Header {
    version: u32,
    ring: Ring,
}

/// Reads `version = N` and perhaps `ring = Entry`.
pub(crate) fn header(arguments: TokenStream) -> Result<Header> {
    let pairs = Punctuated::<MetaNameValue, Token![,]>::parse_terminated;
    let pairs = pairs.parse2(arguments)?;
    let (mut version, mut ring) = (None, Ring::None);
    for pair in &pairs {
        let value = pair.value.to_token_stream();
        if pair.path.is_ident("version") {
            version = Some(syn::parse2::<LitInt>(value)?);
        } else if pair.path.is_ident("ring") {
            ring = Ring::Of(value);
        } else {
            return Err(Error::new(
                pair.path.span(),
                "the only arguments are `version` and `ring`",
            ));
        }
    }
    let Some(number) = version else {
        return Err(Error::new(
            Span::call_site(),
            "say which version this is: #[interface(version = 1)]",
        ));
    };
    match number.base10_parse()? {
        0 => Err(Error::new(number.span(), "versions start at 1")),
        version => Ok(Header { version, ring }),
    }
}

impl Interface {
    pub(crate) fn new(header: Header, item: ItemTrait) -> Result<Interface> {
        if !item.generics.params.is_empty() || !item.supertraits.is_empty() {
            return Err(Error::new(
                item.ident.span(),
                "an interface has no type parameters and no supertraits",
            ));
        }
        let (mut methods, mut entries) = (Vec::new(), Vec::new());
        for item in item.items {
            let TraitItem::Fn(function) = item else {
                return Err(Error::new(item.span(), "an interface has only methods"));
            };
            match marker(&function)? {
                Marker::Call(contract) => methods.push(Method::new(&function, contract)?),
                Marker::Stream => methods.push(Method::stream(&function)?),
                Marker::Ring => {
                    if let Some(path) = ensures(&function)?.or(sealed(&function)?) {
                        return Err(Error::new(
                            path.span(),
                            format!(
                                "ring method `{}` cannot have #[ensures] or #[sealed]: look at \
                                 completions where they are taken",
                                function.sig.ident
                            ),
                        ));
                    }
                    entries.push(RingMethod::new(&function)?);
                }
            }
        }
        check_count(&item.ident, methods.len())?;
        check_names(&methods, &entries)?;
        check_results(&entries)?;
        let ring = match header.ring {
            Ring::Of(_) if !entries.is_empty() => {
                return Err(Error::new(
                    item.ident.span(),
                    "the ring has the entries of another interface: remove `ring = …` or the \
                     #[ring] methods",
                ));
            }
            Ring::None if !entries.is_empty() => Ring::Own(entries),
            ring => ring,
        };
        let Attributes {
            docs,
            suspect,
            is_compared,
        } = Attributes::of_interface(&item.attrs)?;
        Ok(Interface {
            docs,
            suspect,
            is_compared,
            name: item.ident,
            visibility: item.vis,
            version: header.version,
            methods,
            ring,
        })
    }
}

impl Method {
    fn new(function: &TraitItemFn, contract: Contract) -> Result<Method> {
        let name = function.sig.ident.clone();
        check_plain(function)?;
        let arguments = function
            .sig
            .inputs
            .iter()
            .map(|input| Argument::new(&name, input))
            .collect::<Result<Vec<_>>>()?;
        let (ok, error) = output(&name, &function.sig.output)?;
        check_limits(&name, &arguments, &ok)?;
        let sealed = sealed(function)?;
        check_seal(&name, &arguments, sealed.as_ref())?;
        Ok(Method {
            docs: docs_of(function),
            contract,
            arguments,
            ok,
            error,
            stream: None,
            ensures: ensures(function)?,
            sealed,
            signature: signature(function, contract.attribute()),
            name,
        })
    }

    /// A batch is asked for by its cursor, so it may be asked for again.
    fn stream(function: &TraitItemFn) -> Result<Method> {
        let mut method = Method::new(function, Contract::Idempotent)?;
        if let Some(path) = &method.sealed {
            let why = format!("stream `{}` cannot have #[sealed]", method.name);
            return Err(Error::new(path.span(), why));
        }
        method.signature = signature(function, "stream");
        Stream::add_to(&mut method)?;
        Ok(method)
    }

    /// Returns whether a request takes handles away from the client.
    pub(crate) fn gives_handles_away(&self) -> bool {
        let is_moved = |argument: &Argument| matches!(&argument.kind, ArgumentKind::Handle(handle) if handle.is_moved);
        self.arguments.iter().any(is_moved)
    }

    /// Returns the arguments of the method of the client: the seal it makes itself.
    pub(crate) fn client_arguments(&self) -> &[Argument] {
        match self.arguments.split_last() {
            Some((_, others)) if self.sealed.is_some() => others,
            _ => &self.arguments,
        }
    }

    /// Returns the name of the method of the client that makes the call.
    pub(crate) fn call_name(&self) -> Ident {
        match &self.stream {
            Some(stream) => stream.batch_name.clone(),
            None => self.name.clone(),
        }
    }
}

/// Checks that a request that is sealed has a place for the seal, behind what it is made of.
fn check_seal(name: &Ident, arguments: &[Argument], sealed: Option<&Path>) -> Result<()> {
    let is_value = |last: &Argument| matches!(last.kind, ArgumentKind::Owned(_));
    match sealed {
        Some(path) if !arguments.last().is_some_and(is_value) => Err(Error::new(
            path.span(),
            format!("method `{name}` has #[sealed]: its last argument must be the seal, a value"),
        )),
        _ => Ok(()),
    }
}

/// Checks that no method has the number of the handshake.
pub(crate) fn check_count(interface: &Ident, methods: usize) -> Result<()> {
    if methods <= MAX_METHODS {
        return Ok(());
    }
    Err(Error::new(
        interface.span(),
        format!(
            "an interface has at most {MAX_METHODS} methods: number 0xffff is the handshake's; \
             make two interfaces of `{interface}`"
        ),
    ))
}

/// Checks that no two methods have one name, here or in the client.
fn check_names(methods: &[Method], entries: &[RingMethod]) -> Result<()> {
    let calls = methods
        .iter()
        .map(|method| (&method.name, method.call_name()));
    let streams = methods.iter().filter(|method| method.stream.is_some());
    let streams = streams.map(|method| (&method.name, method.name.clone()));
    let entries = entries
        .iter()
        .map(|method| (&method.name, method.name.clone()));
    let mut seen = BTreeSet::new();
    for (method, name) in calls.chain(streams).chain(entries) {
        if RESERVED_NAMES.iter().any(|reserved| name == reserved) {
            return Err(Error::new(
                method.span(),
                format!("method `{method}` has a name that every client has: choose another"),
            ));
        }
        if !seen.insert(name.to_string()) {
            return Err(Error::new(
                method.span(),
                format!("method `{method}`: the name `{name}` is taken: choose another"),
            ));
        }
    }
    Ok(())
}

/// Checks that a method has nothing but arguments and a result.
pub(crate) fn check_plain(function: &TraitItemFn) -> Result<()> {
    let (name, sig) = (&function.sig.ident, &function.sig);
    if let Some(body) = &function.default {
        return Err(Error::new(
            body.span(),
            format!("method `{name}` of an interface has no body: end it with `;`"),
        ));
    }
    let is_safe = matches!(sig.safety, syn::Safety::Default);
    let is_generic = !sig.generics.params.is_empty() || sig.generics.where_clause.is_some();
    if sig.asyncness.is_some() || !is_safe || is_generic {
        return Err(Error::new(
            name.span(),
            format!(
                "method `{name}` must be a plain `fn`: no async, unsafe or parameters; write its \
                 types out"
            ),
        ));
    }
    Ok(())
}

/// Returns the documentation of a method.
pub(crate) fn docs_of(function: &TraitItemFn) -> Vec<Attribute> {
    let attributes = function.attrs.iter();
    let docs = attributes.filter(|attribute| attribute.path().is_ident("doc"));
    docs.cloned().collect()
}

impl Argument {
    pub(crate) fn new(method: &Ident, input: &FnArg) -> Result<Argument> {
        let FnArg::Typed(typed) = input else {
            return Err(Error::new(
                input.span(),
                format!(
                    "method `{method}` has no `self`: remove it, the client and the server have \
                     their own"
                ),
            ));
        };
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(Error::new(
                typed.pat.span(),
                format!("method `{method}`: an argument needs a plain name"),
            ));
        };
        let name = pattern.ident.clone();
        let mut is_moved = false;
        for attribute in &typed.attrs {
            if !attribute.path().is_ident("moved") {
                return Err(Error::new(
                    attribute.span(),
                    format!("method `{method}`: the only attribute here is `#[moved]`"),
                ));
            }
            is_moved = true;
        }
        check_travels(method, &format!("argument `{name}`"), &typed.ty)?;
        let mut kind = argument_kind(method, &name, &typed.ty)?;
        if is_moved {
            let ArgumentKind::Handle(handle) = &mut kind else {
                return Err(Error::new(
                    name.span(),
                    format!("method `{method}`: `{name}` is a value; only handles are `#[moved]`"),
                ));
            };
            handle.is_moved = true;
        }
        Ok(Argument { name, kind })
    }
}

fn argument_kind(method: &Ident, name: &Ident, ty: &Type) -> Result<ArgumentKind> {
    if let Some(handle) = handle_type(ty) {
        return Ok(ArgumentKind::Handle(Box::new(handle)));
    }
    let Type::Reference(reference) = ty else {
        return Ok(ArgumentKind::Owned(ty.clone()));
    };
    if reference.mutability.is_some() || reference.lifetime.is_some() {
        return Err(Error::new(
            ty.span(),
            format!("method `{method}`: argument `{name}` must be lent as plain `&T`"),
        ));
    }
    Ok(match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") => ArgumentKind::Text,
        Type::Slice(slice) if is_u8(&slice.elem) => ArgumentKind::Bytes,
        Type::Slice(slice) => ArgumentKind::Slice((*slice.elem).clone()),
        other => ArgumentKind::Borrowed(other.clone()),
    })
}

/// Refuses types of which it can be seen that no message holds them. For the others the compiler
/// says so, in a function that has the name of the method.
fn check_travels(method: &Ident, what: &str, ty: &Type) -> Result<()> {
    let refused = |why: &str| {
        Err(Error::new(
            ty.span(),
            format!("method `{method}`: {what} cannot travel: {why}"),
        ))
    };
    match ty {
        Type::Path(path) => {
            for name in ["f32", "f64"] {
                if path.path.is_ident(name) {
                    return refused("messages have no floating point numbers; scale an integer");
                }
            }
            for name in ["usize", "isize"] {
                if path.path.is_ident(name) {
                    return refused("its width is the machine's; say `u64` or `u32`");
                }
            }
            Ok(())
        }
        Type::Reference(reference) => check_travels(method, what, &reference.elem),
        Type::Ptr(_) => refused("an address means nothing in another process; pass a handle"),
        Type::FnPtr(_) | Type::ImplTrait(_) | Type::TraitObject(_) => {
            refused("code stays in its process; say a type with serde's derives")
        }
        Type::Infer(_) | Type::Never(_) | Type::Macro(_) => refused("write its type out"),
        _ => Ok(()),
    }
}

/// Splits `-> Result<T, E>`.
pub(crate) fn output(method: &Ident, output: &ReturnType) -> Result<(Output, Type)> {
    let wrong = |span: Span| {
        Error::new(
            span,
            format!("method `{method}` must return `Result<T, E>`, E an error enum"),
        )
    };
    let ReturnType::Type(_, ty) = output else {
        return Err(wrong(method.span()));
    };
    let arguments = generic_arguments(ty, "Result").ok_or_else(|| wrong(ty.span()))?;
    let [ok, error] = arguments.as_slice() else {
        return Err(wrong(ty.span()));
    };
    check_travels(method, "its error", error)?;
    check_travels(method, "what it returns", ok)?;
    let ok = match ok {
        Type::Tuple(tuple) if !tuple.elems.is_empty() => {
            Output::Tuple(tuple.elems.iter().map(output_part).collect())
        }
        other => Output::Single(Box::new(output_part(other))),
    };
    Ok((ok, error.clone()))
}

fn output_part(ty: &Type) -> OutputPart {
    if let Some(handle) = handle_type(ty) {
        // A reply always moves its handles: the server duplicates what it keeps.
        return OutputPart::Handle(Box::new(HandleType {
            is_moved: true,
            ..handle
        }));
    }
    match generic_arguments(ty, "Vec").as_deref() {
        Some([element]) if is_u8(element) => OutputPart::Bytes(ty.clone()),
        _ => OutputPart::Value(ty.clone()),
    }
}

/// Reads `Handle<K>` and `Option<Handle<K>>`.
fn handle_type(ty: &Type) -> Option<HandleType> {
    let inner = match generic_arguments(ty, "Option").as_deref() {
        Some([inner]) => Some(inner.clone()),
        _ => None,
    };
    let handle = inner.as_ref().unwrap_or(ty).clone();
    let [kind] = &generic_arguments(&handle, "Handle")?[..] else {
        return None;
    };
    let kind = kind.clone();
    Some(HandleType {
        handle,
        kind,
        is_optional: inner.is_some(),
        is_moved: false,
    })
}

/// Returns the type arguments of `ty` if its last path segment is `name`.
pub(crate) fn generic_arguments(ty: &Type, name: &str) -> Option<Vec<Type>> {
    let Type::Path(path) = ty else {
        return None;
    };
    let segment = path.path.segments.last()?;
    if segment.ident != name {
        return None;
    }
    let PathArguments::AngleBracketed(arguments) = &segment.arguments else {
        return None;
    };
    arguments
        .args
        .iter()
        .map(|argument| match argument {
            GenericArgument::Type(ty) => Some(ty.clone()),
            _ => None,
        })
        .collect()
}

fn is_u8(ty: &Type) -> bool {
    matches!(ty, Type::Path(path) if path.path.is_ident("u8"))
}

fn check_limits(method: &Ident, arguments: &[Argument], ok: &Output) -> Result<()> {
    let handles_in = arguments
        .iter()
        .filter(|a| matches!(a.kind, ArgumentKind::Handle(_)))
        .count();
    let handles_out = ok
        .parts()
        .iter()
        .filter(|part| matches!(part, OutputPart::Handle(_)))
        .count();
    if handles_in.max(handles_out) > MAX_HANDLES {
        return Err(Error::new(
            method.span(),
            format!(
                "method `{method}` passes more than {MAX_HANDLES} handles in one message: pass them \
                 in several calls"
            ),
        ));
    }
    if arguments.len().max(ok.parts().len()) > MAX_VALUES {
        return Err(Error::new(
            method.span(),
            format!("method `{method}` has more than {MAX_VALUES} values: make a struct of them"),
        ));
    }
    Ok(())
}

/// Writes the method's part of the schema: what it is, name, types; not docs and argument names.
pub(crate) fn signature(function: &TraitItemFn, marker: &str) -> String {
    let mut text = format!("{marker} {}(", function.sig.ident);
    for input in &function.sig.inputs {
        if let FnArg::Typed(typed) = input {
            if !typed.attrs.is_empty() {
                text.push_str("moved ");
            }
            text.push_str(&type_text(&typed.ty));
            text.push(',');
        }
    }
    text.push_str(")->");
    if let ReturnType::Type(_, ty) = &function.sig.output {
        text.push_str(&type_text(ty));
    }
    text
}

/// Writes a type without the spaces that token printing may or may not put.
pub(crate) fn type_text(ty: &Type) -> String {
    ty.to_token_stream()
        .to_string()
        .split_whitespace()
        .collect()
}
