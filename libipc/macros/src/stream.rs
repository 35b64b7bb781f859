//! Stream methods: calls for one batch, and the client's iterator over all of them.

use proc_macro2::{Ident, TokenStream};
use quote::{format_ident, quote};
use syn::spanned::Spanned as _;
use syn::{Error, Result, Type, parse_quote};

use crate::generate::client_parameter;
use crate::parse::{Argument, ArgumentKind, Method, Output, OutputPart, generic_arguments};

/// What a method is a stream of.
pub(crate) struct Stream {
    item: Type,
    cursor: Type,
    /// Name of the client's method that asks for one batch.
    pub(crate) batch_name: Ident,
}

impl Stream {
    /// Makes a method that returns `Stream<T, C>` one that takes a cursor and returns a batch.
    pub(crate) fn add_to(method: &mut Method) -> Result<()> {
        let name = &method.name;
        let wrong = |span| {
            Error::new(
                span,
                format!("stream `{name}` must return `Result<Stream<T, C>, E>`, C its cursor"),
            )
        };
        let [OutputPart::Value(ty)] = method.ok.parts() else {
            return Err(wrong(name.span()));
        };
        let types = generic_arguments(ty, "Stream").ok_or_else(|| wrong(ty.span()))?;
        let [item, cursor] = types.as_slice() else {
            return Err(wrong(ty.span()));
        };
        let (item, cursor) = (item.clone(), cursor.clone());
        if generic_arguments(&item, "Handle").is_some() {
            return Err(Error::new(
                item.span(),
                format!("stream `{name}` cannot have handles as items: return them by a call"),
            ));
        }
        for argument in &method.arguments {
            if matches!(&argument.kind, ArgumentKind::Handle(handle) if handle.is_moved) {
                return Err(Error::new(
                    argument.name.span(),
                    format!(
                        "stream `{name}`: `{}` is wanted for each batch and cannot be moved: \
                         remove `#[moved]`",
                        argument.name
                    ),
                ));
            }
            if argument.name == "from" {
                return Err(Error::new(
                    argument.name.span(),
                    format!("stream `{name}`: `from` is the name of its cursor: choose another"),
                ));
            }
        }
        method.ok = Output::Single(Box::new(OutputPart::Value(parse_quote! {
            ::libipc::stream::Batch<#item, #cursor>
        })));
        method.arguments.push(Argument {
            name: format_ident!("from"),
            kind: ArgumentKind::Owned(cursor.clone()),
        });
        method.stream = Some(Stream {
            item,
            cursor,
            batch_name: format_ident!("{name}_batch"),
        });
        Ok(())
    }
}

/// The method of the client that goes through all items; nothing for a plain call.
pub(crate) fn iterator(method: &Method) -> Option<TokenStream> {
    let Stream {
        item,
        cursor,
        batch_name,
    } = method.stream.as_ref()?;
    let Method {
        name, docs, error, ..
    } = method;
    // All but the cursor.
    let (_, arguments) = method.arguments.split_last()?;
    let parameters = arguments.iter().map(client_parameter);
    let values = arguments.iter().map(|argument| {
        let name = &argument.name;
        match &argument.kind {
            ArgumentKind::Owned(_) => quote! { ::core::clone::Clone::clone(&#name) },
            _ => quote! { #name },
        }
    });
    Some(quote! {
        #(#docs)*
        #[doc = ""]
        #[doc = "A stream: it is asked for batch by batch, as its items are taken."]
        pub fn #name(
            &self,
            #(#parameters),*
        ) -> impl ::core::iter::Iterator<
            Item = ::core::result::Result<#item, ::libipc::Failure<#error>>,
        > {
            ::libipc::stream::Items::new(move |__from: #cursor| {
                self.#batch_name(#(#values,)* __from)
            })
        }
    })
}
