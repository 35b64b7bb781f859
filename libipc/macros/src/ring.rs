//! Ring methods: read from the trait, and written as the enum of what a ring's entry may be.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned as _;
use syn::{Attribute, Error, Result, TraitItemFn, Type, Visibility};

use crate::parse::{
    Argument, ArgumentKind, Interface, OutputPart, check_plain, docs_of, output, signature,
    type_text,
};

/// Arguments of a ring entry (`libipc::typed_ring::ARGUMENTS`).
const MAX_ARGUMENTS: usize = 5;

/// What the entries of an interface's ring are.
pub(crate) enum Ring {
    /// It has none.
    None,
    /// Those of another interface: `ring = path`.
    Of(TokenStream),
    /// Its own `#[ring]` methods.
    Own(Vec<RingMethod>),
}

/// A `#[ring]` method.
pub(crate) struct RingMethod {
    pub(crate) name: Ident,
    docs: Vec<Attribute>,
    arguments: Vec<(Ident, Type)>,
    ok: Type,
    error: Type,
    signature: String,
}

impl RingMethod {
    pub(crate) fn new(function: &TraitItemFn) -> Result<RingMethod> {
        let name = function.sig.ident.clone();
        check_plain(function)?;
        let mut arguments = Vec::new();
        for input in &function.sig.inputs {
            let argument = Argument::new(&name, input)?;
            let ArgumentKind::Owned(ty) = argument.kind else {
                return Err(Error::new(
                    input.span(),
                    format!(
                        "ring method `{name}`: argument `{}` must be a value of one word: register \
                         handles and memory by a call, and name them by a number here",
                        argument.name
                    ),
                ));
            };
            arguments.push((argument.name, ty));
        }
        if arguments.len() > MAX_ARGUMENTS {
            return Err(Error::new(
                name.span(),
                format!(
                    "ring method `{name}` has more than {MAX_ARGUMENTS} arguments: an entry has \
                     no more words; put the rest into a registered buffer"
                ),
            ));
        }
        let (ok, error) = output(&name, &function.sig.output)?;
        let [OutputPart::Value(ok)] = ok.parts() else {
            return Err(Error::new(
                function.sig.output.span(),
                format!("ring method `{name}` must return one word: `Result<T, E>`, T a number"),
            ));
        };
        Ok(RingMethod {
            docs: docs_of(function),
            arguments,
            ok: ok.clone(),
            error,
            signature: signature(function, "ring"),
            name,
        })
    }

    /// The name of the variant.
    fn variant(&self) -> Ident {
        let words = self.name.to_string();
        let camel: String = words
            .split('_')
            .map(|word| {
                let (first, rest) = word.split_at(word.len().min(1));
                first.to_uppercase() + rest
            })
            .collect();
        Ident::new(&camel, self.name.span())
    }
}

/// Checks that all completions can be read in one way.
pub(crate) fn check_results(methods: &[RingMethod]) -> Result<()> {
    let Some(first) = methods.first() else {
        return Ok(());
    };
    let text = |method: &RingMethod| (type_text(&method.ok), type_text(&method.error));
    match methods.iter().find(|method| text(method) != text(first)) {
        Some(other) => Err(Error::new(
            other.name.span(),
            format!(
                "ring method `{}` does not return the same as ring method `{}`: a completion does \
                 not say which method it is of; give all of them one `Result`",
                other.name, first.name
            ),
        )),
        None => Ok(()),
    }
}

/// The name of the enum of entries.
pub(crate) fn entry_name(interface: &Interface) -> Ident {
    format_ident!("{}Entry", interface.name)
}

/// What tells the ring of the interface, if it has one: a type that is a `RingRequest`.
pub(crate) fn entry_type(interface: &Interface) -> Option<TokenStream> {
    match &interface.ring {
        Ring::None => None,
        Ring::Of(path) => Some(path.clone()),
        Ring::Own(_) => {
            let name = entry_name(interface);
            Some(quote! { #name })
        }
    }
}

/// Writes the enum of entries, and how they are packed.
pub(crate) fn entries(interface: &Interface) -> TokenStream {
    let Ring::Own(methods) = &interface.ring else {
        return TokenStream::new();
    };
    let name = entry_name(interface);
    enumeration(&interface.visibility, &name, &interface.name, methods)
        .into_iter()
        .chain(packing(&name, &interface.name, methods))
        .collect()
}

fn enumeration(
    visibility: &Visibility,
    name: &Ident,
    interface: &Ident,
    methods: &[RingMethod],
) -> TokenStream {
    let doc = format!("An entry in a ring of [`{interface}`].");
    let variants = methods.iter().map(|method| {
        let (variant, docs) = (method.variant(), &method.docs);
        let fields = method.arguments.iter().map(|(name, ty)| {
            let doc = format!("Argument `{name}`.");
            quote! { #[doc = #doc] #name: #ty }
        });
        if method.arguments.is_empty() {
            quote! { #(#docs)* #variant }
        } else {
            quote! { #(#docs)* #variant { #(#fields),* } }
        }
    });
    quote! {
        #[doc = #doc]
        #[allow(clippy::enum_variant_names, reason = "they have the names of the methods")]
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        #visibility enum #name {
            #(#variants),*
        }
    }
}

fn packing(name: &Ident, interface: &Ident, methods: &[RingMethod]) -> TokenStream {
    let text = interface.to_string();
    let names = methods.iter().map(|method| method.name.to_string());
    let signatures = methods.iter().map(|method| &method.signature);
    let packs = (1_u32..)
        .zip(methods)
        .map(|(opcode, method)| pack(opcode, method));
    let unpacks = (1_u32..)
        .zip(methods)
        .map(|(opcode, method)| unpack(opcode, method));
    let results = methods.iter().take(1).map(|RingMethod { ok, error, .. }| {
        quote! { type Ok = #ok; type Error = #error; }
    });
    quote! {
        impl ::libipc::typed_ring::RingRequest for #name {
            #(#results)*

            const RING: &'static ::libipc::schema::Ring = &::libipc::schema::Ring {
                name: #text,
                methods: &[#(#names),*],
                signatures: &[#(#signatures),*],
            };

            fn to_words(self) -> (u32, [u64; #MAX_ARGUMENTS]) {
                match self {
                    #(#packs)*
                }
            }

            #[allow(unreachable_patterns, reason = "some methods use all words")]
            fn from_words(
                __opcode: u32,
                __words: [u64; #MAX_ARGUMENTS],
            ) -> ::core::result::Result<Self, ::libipc::wire::Status> {
                Ok(match (__opcode, __words) {
                    #(#unpacks)*
                    _ => return Err(::libipc::wire::Status::UnknownMethod),
                })
            }
        }
    }
}

/// The arm that makes words of a variant; those without an argument are 0.
fn pack(opcode: u32, method: &RingMethod) -> TokenStream {
    let variant = method.variant();
    let names = method.arguments.iter().map(|(name, _)| name);
    let words = method.arguments.iter().map(|(name, ty)| {
        quote! { <#ty as ::libipc::typed_ring::Word>::to_word(#name) }
    });
    let zeros = (method.arguments.len()..MAX_ARGUMENTS).map(|_| quote! { 0 });
    quote! { Self::#variant { #(#names),* } => (#opcode, [#(#words,)* #(#zeros),*]), }
}

/// The arms that make a variant of words, or refuse them.
fn unpack(opcode: u32, method: &RingMethod) -> TokenStream {
    let variant = method.variant();
    let places = (0..method.arguments.len()).map(|i| format_ident!("__word{i}"));
    let fields = method
        .arguments
        .iter()
        .zip(places.clone())
        .map(|((name, ty), word)| {
            quote! {
                #name: <#ty as ::libipc::typed_ring::Word>::from_word(#word)
                    .ok_or(::libipc::wire::Status::Malformed)?
            }
        });
    let zeros = (method.arguments.len()..MAX_ARGUMENTS).map(|_| quote! { 0 });
    quote! {
        (#opcode, [#(#places,)* #(#zeros),*]) => Self::#variant { #(#fields),* },
        (#opcode, _) => return Err(::libipc::wire::Status::Malformed),
    }
}
