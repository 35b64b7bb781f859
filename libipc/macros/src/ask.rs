//! What a method of a client does: it asks, looks at the reply, and asks once more if it has to.

use proc_macro2::TokenStream;
use quote::quote;

use crate::generate::{
    client_handle, client_value, output_expression, output_names, output_type, output_wire_type,
    take_handle,
};
use crate::parse::{ArgumentKind, Method, OutputPart};

/// What a method of the client does: it asks, and once more if the answer speaks against the server
/// and asking again does no harm.
pub(crate) fn client_body(index: u16, method: &Method) -> TokenStream {
    let ask = ask(index, method);
    let doubt = |asked: TokenStream| {
        quote! {
            self.client.doubt::<<Self as ::libipc::client::Typed>::Interface, _>(
                #index,
                __failure,
                ::libipc::client::Asked::#asked,
            )
        }
    };
    let (may_ask_again, doubt_again) = (doubt(quote! { Once }), doubt(quote! { Again }));
    if let Ask::WithHandles(ask) = &ask
        && method.gives_handles_away()
    {
        return quote! {
            let __answer = #ask;
            if let Err(__failure) = &__answer {
                // What was given away cannot be sent again.
                let _ = #may_ask_again;
            }
            __answer
        };
    }
    let attempt = attempt(method, &ask);
    // What is rare is somewhere else, so that the way to the reply keeps nothing for it.
    quote! {
        let __error = #attempt;
        ::libipc::client::rarely(move || {
            let __failure = &__error;
            if !#may_ask_again {
                return Err(__error);
            }
            let __error = #attempt;
            let __failure = &__error;
            // Nobody is asked a third time.
            let _ = #doubt_again;
            Err(__error)
        })
    }
}

/// Asks once: an expression of the error. If there is none, the reply goes to the caller straight from
/// there, as it may be large.
fn attempt(method: &Method, ask: &Ask) -> TokenStream {
    match ask {
        Ask::Plain(call, patterns, reply) => {
            let found = match promise(method) {
                None => quote! { return Ok(#reply), },
                Some(promise) => quote! {
                    {
                        let __reply = #reply;
                        if #promise {
                            return Ok(__reply);
                        }
                        ::libipc::Failure::Protocol(::libipc::Protocol::BrokenPromise)
                    }
                },
            };
            quote! {
                match #call {
                    Ok(#patterns) => #found
                    Err(__error) => __error,
                }
            }
        }
        Ask::WithHandles(ask) => quote! {
            match #ask {
                Ok(__reply) => return Ok(__reply),
                Err(__error) => __error,
            }
        },
    }
}

/// How a request is sent once.
enum Ask {
    /// A call without handles, the pattern of what it returns, and the reply made of that.
    Plain(TokenStream, TokenStream, TokenStream),
    /// An expression of the result, whose reply has been checked.
    WithHandles(TokenStream),
}

/// Sends the request of a method once.
fn ask(index: u16, method: &Method) -> Ask {
    let values = method.arguments.iter().filter_map(client_value);
    let handles: Vec<_> = method.arguments.iter().filter_map(client_handle).collect();
    let wire_types = method.ok.parts().iter().filter_map(output_wire_type);
    let patterns = output_names(&method.ok)
        .zip(method.ok.parts())
        .filter_map(|(name, part)| match part {
            OutputPart::Handle(handle) if !handle.is_optional => None,
            _ => Some(name),
        });
    let takes: Vec<_> = output_names(&method.ok)
        .zip(method.ok.parts())
        .filter_map(|(name, part)| {
            let OutputPart::Handle(handle) = part else {
                return None;
            };
            Some(take_handle(&name, handle))
        })
        .collect();
    let result = output_expression(&method.ok, |name, part| match part {
        OutputPart::Bytes(_) => quote! { #name.0 },
        _ => quote! { #name },
    });
    let (ok, error) = (output_type(&method.ok), &method.error);
    let interface = quote! { <Self as ::libipc::client::Typed>::Interface };
    let wire_type = quote! { (#(#wire_types,)*) };
    let values = quote! { &(#(#values,)*) };
    let patterns = quote! { (#(#patterns,)*) };
    if handles.is_empty() && takes.is_empty() {
        let call = quote! {
            self.client.call_plain::<#interface, _, #wire_type, #error>(#index, #values)
        };
        return Ask::Plain(call, patterns, result);
    }
    let checked = checked(method);
    Ask::WithHandles(quote! {
        (|| -> ::core::result::Result<#ok, ::libipc::Failure<#error>> {
            #[allow(unused_mut, reason = "some methods only return handles")]
            let mut __out = ::libipc::wire::OutHandles::new();
            #(#handles)*
            #[allow(unused_mut, reason = "some methods only take handles")]
            let (__value, mut __in) =
                self.client.call::<#interface, _, #wire_type, _>(#index, #values, __out)?;
            let #patterns = __value;
            #(#takes)*
            __in.close();
            let __reply = #result;
            #checked
            Ok(__reply)
        })()
    })
}

/// Looks at the reply, if the method says what holds for it.
fn checked(method: &Method) -> Option<TokenStream> {
    let promise = promise(method)?;
    Some(quote! {
        if !#promise {
            return Err(::libipc::Failure::Protocol(::libipc::Protocol::BrokenPromise));
        }
    })
}

/// Makes the seal of a request that has one.
pub(crate) fn seal(method: &Method) -> Option<TokenStream> {
    let path = method.sealed.as_ref()?;
    let seal = &method.arguments.last()?.name;
    let asked = asked(method);
    Some(quote! { let #seal = #path(#(#asked),*); })
}

/// The values that the client is called with.
fn asked(method: &Method) -> impl Iterator<Item = &syn::Ident> {
    let arguments = method.client_arguments().iter();
    arguments
        .filter(|argument| !matches!(argument.kind, ArgumentKind::Handle(_)))
        .map(|argument| &argument.name)
}

/// The expression that tells whether the reply can be true. The arguments have been sent, so they
/// can be given away.
fn promise(method: &Method) -> Option<TokenStream> {
    let own = method.ensures.as_ref().map(|path| {
        let asked = asked(method);
        quote! { #path(#(#asked,)* &__reply) }
    });
    let cursor = method.arguments.last().filter(|_| method.stream.is_some());
    let gets_on = cursor.map(|cursor| {
        let cursor = &cursor.name;
        quote! { ::libipc::stream::gets_on(&#cursor, &__reply) }
    });
    let mut promises = gets_on.into_iter().chain(own);
    let first = promises.next()?;
    Some(quote! { (#first #(&& #promises)*) })
}
