//! Reads the trait and checks that it can be an interface.

use proc_macro2::{Span, TokenStream};
use quote::ToTokens as _;
use syn::spanned::Spanned as _;
use syn::{
    Attribute, Error, FnArg, GenericArgument, Ident, ItemTrait, LitInt, Pat, PathArguments, Result,
    ReturnType, TraitItem, TraitItemFn, Type, Visibility,
};

/// Most handles in a message (`skink_abi::MAX_HANDLES`).
const MAX_HANDLES: usize = 4;
/// Most values besides handles in a message: the longest tuple that serde knows.
const MAX_VALUES: usize = 16;
/// Number of the handshake method: an interface has fewer methods.
const MAX_METHODS: usize = 0xffff;

/// A checked interface.
pub(crate) struct Interface {
    pub(crate) name: Ident,
    pub(crate) visibility: Visibility,
    pub(crate) version: u32,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) methods: Vec<Method>,
}

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

/// A method of the interface.
pub(crate) struct Method {
    pub(crate) name: Ident,
    pub(crate) docs: Vec<Attribute>,
    pub(crate) contract: Contract,
    pub(crate) arguments: Vec<Argument>,
    pub(crate) ok: Output,
    pub(crate) error: Type,
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

/// Reads `version = N`.
pub(crate) fn version(arguments: TokenStream) -> Result<u32> {
    let pair: syn::MetaNameValue = syn::parse2(arguments).map_err(|error| {
        Error::new(
            error.span(),
            "say which version this is: #[interface(version = 1)]",
        )
    })?;
    if !pair.path.is_ident("version") {
        return Err(Error::new(
            pair.path.span(),
            "the only argument is `version`",
        ));
    }
    let number: LitInt = syn::parse2(pair.value.to_token_stream())?;
    let version = number.base10_parse()?;
    if version == 0 {
        return Err(Error::new(number.span(), "versions start at 1"));
    }
    Ok(version)
}

impl Interface {
    pub(crate) fn new(version: u32, item: ItemTrait) -> Result<Interface> {
        if !item.generics.params.is_empty() || !item.supertraits.is_empty() {
            return Err(Error::new(
                item.ident.span(),
                "an interface has no type parameters and no supertraits",
            ));
        }
        let mut methods = Vec::new();
        for item in item.items {
            match item {
                TraitItem::Fn(function) => methods.push(Method::new(function)?),
                other => {
                    return Err(Error::new(other.span(), "an interface has only methods"));
                }
            }
        }
        if methods.len() >= MAX_METHODS {
            return Err(Error::new(item.ident.span(), "too many methods"));
        }
        Ok(Interface {
            docs: only_docs(&item.attrs)?,
            name: item.ident,
            visibility: item.vis,
            version,
            methods,
        })
    }
}

impl Method {
    fn new(function: TraitItemFn) -> Result<Method> {
        let name = function.sig.ident.clone();
        let contract = contract(&function)?;
        if let Some(body) = &function.default {
            return Err(Error::new(
                body.span(),
                "a method of an interface has no body",
            ));
        }
        let sig = &function.sig;
        let is_safe = matches!(sig.safety, syn::Safety::Default);
        if sig.asyncness.is_some() || !is_safe || !sig.generics.params.is_empty() {
            return Err(Error::new(
                name.span(),
                format!("method `{name}` must be a plain `fn`: no async, unsafe or parameters"),
            ));
        }
        let arguments = sig
            .inputs
            .iter()
            .map(|input| Argument::new(&name, input))
            .collect::<Result<Vec<_>>>()?;
        let (ok, error) = output(&name, &sig.output)?;
        check_limits(&name, &arguments, &ok)?;
        let signature = signature(&function, contract);
        let docs = function
            .attrs
            .into_iter()
            .filter(|attribute| attribute.path().is_ident("doc"))
            .collect();
        Ok(Method {
            name,
            docs,
            contract,
            arguments,
            ok,
            error,
            signature,
        })
    }
}

impl Argument {
    fn new(method: &Ident, input: &FnArg) -> Result<Argument> {
        let FnArg::Typed(typed) = input else {
            return Err(Error::new(
                input.span(),
                format!(
                    "method `{method}` has no `self`: the client and the server have their own"
                ),
            ));
        };
        let Pat::Ident(pattern) = &*typed.pat else {
            return Err(Error::new(
                typed.pat.span(),
                "an argument needs a plain name",
            ));
        };
        let name = pattern.ident.clone();
        let mut is_moved = false;
        for attribute in &typed.attrs {
            if !attribute.path().is_ident("moved") {
                return Err(Error::new(
                    attribute.span(),
                    "the only attribute here is `#[moved]`",
                ));
            }
            is_moved = true;
        }
        let mut kind = argument_kind(&typed.ty)?;
        if is_moved {
            let ArgumentKind::Handle(handle) = &mut kind else {
                return Err(Error::new(name.span(), "only handles can be `#[moved]`"));
            };
            handle.is_moved = true;
        }
        Ok(Argument { name, kind })
    }
}

fn argument_kind(ty: &Type) -> Result<ArgumentKind> {
    if let Some(handle) = handle_type(ty) {
        return Ok(ArgumentKind::Handle(Box::new(handle)));
    }
    let Type::Reference(reference) = ty else {
        return Ok(ArgumentKind::Owned(ty.clone()));
    };
    if reference.mutability.is_some() || reference.lifetime.is_some() {
        return Err(Error::new(ty.span(), "an argument is lent as plain `&T`"));
    }
    Ok(match &*reference.elem {
        Type::Path(path) if path.path.is_ident("str") => ArgumentKind::Text,
        Type::Slice(slice) if is_u8(&slice.elem) => ArgumentKind::Bytes,
        Type::Slice(slice) => ArgumentKind::Slice((*slice.elem).clone()),
        other => ArgumentKind::Borrowed(other.clone()),
    })
}

/// Finds the one contract of a method.
fn contract(function: &TraitItemFn) -> Result<Contract> {
    let name = &function.sig.ident;
    let mut found = None;
    for attribute in &function.attrs {
        if attribute.path().is_ident("doc") {
            continue;
        }
        let known = Contract::ALL
            .into_iter()
            .find(|kind| attribute.path().is_ident(kind.attribute()));
        let Some(known) = known else {
            return Err(Error::new(
                attribute.span(),
                format!("method `{name}` has an attribute that interfaces do not know"),
            ));
        };
        if found.replace(known).is_some() {
            return Err(Error::new(
                attribute.span(),
                format!("method `{name}` has two restart contracts: keep one"),
            ));
        }
    }
    found.ok_or_else(|| {
        Error::new(
            name.span(),
            format!(
                "method `{name}` needs a restart contract: put #[idempotent] (a redelivered \
                 request is run again), #[exactly_once] (it gets its stored reply) or \
                 #[fails_on_restart] (the client gets `Failure::Restarted`) on it"
            ),
        )
    })
}

/// Splits `-> Result<T, E>`.
fn output(method: &Ident, output: &ReturnType) -> Result<(Output, Type)> {
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
fn generic_arguments(ty: &Type, name: &str) -> Option<Vec<Type>> {
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
            format!("method `{method}` passes more than {MAX_HANDLES} handles in one message"),
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

/// Writes the method's part of the schema: contract, name, types; not docs and argument names.
fn signature(function: &TraitItemFn, contract: Contract) -> String {
    let mut text = format!("{} {}(", contract.attribute(), function.sig.ident);
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
fn type_text(ty: &Type) -> String {
    ty.to_token_stream()
        .to_string()
        .split_whitespace()
        .collect()
}

/// Checks that the trait itself has only docs as attributes.
fn only_docs(attributes: &[Attribute]) -> Result<Vec<Attribute>> {
    match attributes
        .iter()
        .find(|attribute| !attribute.path().is_ident("doc"))
    {
        Some(other) => Err(Error::new(
            other.span(),
            "an interface has no other attributes",
        )),
        None => Ok(attributes.to_vec()),
    }
}
