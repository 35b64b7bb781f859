//! From a line to commands: words, quotes, `;`, `&&`, `||`, `>`, `>>`, `#`, `$?`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::iter::Peekable;
use core::str::Chars;

/// When a command runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum When {
    /// Whatever came of the one before.
    Always,
    /// When the one before succeeded (`&&`).
    Success,
    /// When the one before failed (`||`).
    Failure,
}

/// A part of a word.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Part {
    Text(String),
    /// The exit code of the last command, `$?`.
    Status,
}

/// A word whose `$?` is not filled in yet.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Word {
    parts: Vec<Part>,
}

impl Word {
    /// Returns the text of the word.
    pub fn expand(&self, status: i32) -> String {
        let mut text = String::new();
        for part in &self.parts {
            match part {
                Part::Text(part) => text.push_str(part),
                Part::Status => text.push_str(&format!("{status}")),
            }
        }
        text
    }

    fn push(&mut self, c: char) {
        match self.parts.last_mut() {
            Some(Part::Text(text)) => text.push(c),
            _ => self.parts.push(Part::Text(String::from(c))),
        }
    }
}

/// Where output goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Redirection {
    /// The file.
    pub path: Word,
    /// Whether it is written at its end (`>>`) instead of anew (`>`).
    pub is_append: bool,
}

/// One command of a line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Command {
    /// When it runs.
    pub when: When,
    /// Name and arguments: at least one word.
    pub words: Vec<Word>,
    /// Where its output goes, if not to the terminal.
    pub output: Option<Redirection>,
}

/// Why a line cannot be understood.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ParseError {
    /// A quote has no end.
    OpenQuote(char),
    /// There is no command before or after this.
    MissingCommand(&'static str),
    /// There is no file name after `>` or `>>`.
    MissingFile,
    /// Something that this shell does not do.
    Unsupported(&'static str),
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ParseError::OpenQuote(quote) => write!(f, "missing closing {quote}"),
            ParseError::MissingCommand(near) => write!(f, "missing command near {near}"),
            ParseError::MissingFile => f.write_str("missing file name after >"),
            ParseError::Unsupported(what) => write!(f, "{what} not supported"),
        }
    }
}

enum Token {
    Word(Word),
    /// `;`, a line end, `&&`, `||`.
    Then(&'static str),
    /// `>` or `>>`.
    Output(bool),
}

/// Parses a line, or several.
///
/// # Errors
///
/// Why it cannot be understood; nothing of it should run then.
pub fn parse(text: &str) -> Result<Vec<Command>, ParseError> {
    let mut commands = Vec::new();
    let mut current = empty(When::Always);
    let mut after = "";
    let mut tokens = Tokens {
        rest: text.chars().peekable(),
    };
    while let Some(token) = tokens.next()? {
        match token {
            Token::Word(word) => current.words.push(word),
            Token::Output(is_append) => match tokens.next()? {
                Some(Token::Word(path)) => current.output = Some(Redirection { path, is_append }),
                _ => return Err(ParseError::MissingFile),
            },
            Token::Then(sign) => {
                let when = match sign {
                    "&&" => When::Success,
                    "||" => When::Failure,
                    _ => When::Always,
                };
                let is_needed = when != When::Always || current.when != When::Always;
                let done = core::mem::replace(&mut current, empty(when));
                finish(done, if is_needed { sign } else { "" }, &mut commands)?;
                after = sign;
            }
        }
    }
    let is_needed = current.when != When::Always;
    finish(current, if is_needed { after } else { "" }, &mut commands)?;
    Ok(commands)
}

fn empty(when: When) -> Command {
    Command {
        when,
        words: Vec::new(),
        output: None,
    }
}

/// Adds a command; an empty one only where none is needed.
fn finish(
    command: Command,
    needed_by: &'static str,
    commands: &mut Vec<Command>,
) -> Result<(), ParseError> {
    if !command.words.is_empty() {
        commands.push(command);
        return Ok(());
    }
    match (needed_by, command.output) {
        ("", None) => Ok(()),
        ("", Some(_)) => Err(ParseError::MissingCommand(">")),
        (sign, _) => Err(ParseError::MissingCommand(sign)),
    }
}

struct Tokens<'a> {
    rest: Peekable<Chars<'a>>,
}

impl Tokens<'_> {
    fn next(&mut self) -> Result<Option<Token>, ParseError> {
        while self
            .rest
            .next_if(|&c| c == ' ' || c == '\t' || c == '\r')
            .is_some()
        {}
        let Some(&first) = self.rest.peek() else {
            return Ok(None);
        };
        let token = match first {
            '#' => {
                while self.rest.next_if(|&c| c != '\n').is_some() {}
                return self.next_after_comment();
            }
            '\n' | ';' => {
                self.rest.next();
                Token::Then(";")
            }
            '&' => self.doubled('&', "&&", "background jobs (&) are")?,
            '|' => self.doubled('|', "||", "pipes (|) are")?,
            '>' => {
                self.rest.next();
                Token::Output(self.rest.next_if_eq(&'>').is_some())
            }
            '<' => return Err(ParseError::Unsupported("input redirection (<) is")),
            _ => Token::Word(self.word()?),
        };
        Ok(Some(token))
    }

    fn next_after_comment(&mut self) -> Result<Option<Token>, ParseError> {
        Ok(self.rest.next().map(|_| Token::Then(";")))
    }

    fn doubled(
        &mut self,
        sign: char,
        token: &'static str,
        single: &'static str,
    ) -> Result<Token, ParseError> {
        self.rest.next();
        match self.rest.next_if_eq(&sign) {
            Some(_) => Ok(Token::Then(token)),
            None => Err(ParseError::Unsupported(single)),
        }
    }

    fn word(&mut self) -> Result<Word, ParseError> {
        let mut word = Word::default();
        while let Some(c) = self.rest.next_if(|&c| !is_word_end(c)) {
            match c {
                '\'' => {
                    while let Some(c) = self.rest.next_if(|&c| c != '\'') {
                        word.push(c);
                    }
                    self.rest.next().ok_or(ParseError::OpenQuote('\''))?;
                    word.parts.push(Part::Text(String::new()));
                }
                '"' => self.double_quoted(&mut word)?,
                // A backslash at the very end stands for itself.
                '\\' => word.push(self.rest.next().unwrap_or('\\')),
                '$' => self.dollar(&mut word),
                c => word.push(c),
            }
        }
        Ok(word)
    }

    fn double_quoted(&mut self, word: &mut Word) -> Result<(), ParseError> {
        word.parts.push(Part::Text(String::new()));
        loop {
            match self.rest.next().ok_or(ParseError::OpenQuote('"'))? {
                '"' => return Ok(()),
                '$' => self.dollar(word),
                '\\' => {
                    if self
                        .rest
                        .peek()
                        .is_none_or(|c| !matches!(c, '"' | '\\' | '$'))
                    {
                        word.push('\\');
                    }
                    if let Some(c) = self.rest.next_if(|c| matches!(c, '"' | '\\' | '$')) {
                        word.push(c);
                    }
                }
                c => word.push(c),
            }
        }
    }

    fn dollar(&mut self, word: &mut Word) {
        if self.rest.next_if_eq(&'?').is_some() {
            word.parts.push(Part::Status);
        } else {
            word.push('$');
        }
    }
}

fn is_word_end(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n' | ';' | '&' | '|' | '>' | '<')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Command, ParseError, When, parse};

    fn words(command: &Command) -> Vec<String> {
        command.words.iter().map(|word| word.expand(7)).collect()
    }

    fn all(text: &str) -> Vec<Vec<String>> {
        parse(text).unwrap().iter().map(words).collect()
    }

    #[test]
    fn words_are_split_at_blanks_and_kept_together_by_quotes() {
        assert_eq!(
            all(r#"echo 'a  b' "c 'd'" e\ f "" g"h"i"#),
            [["echo", "a  b", "c 'd'", "e f", "", "ghi"]]
        );
        assert_eq!(
            all(r#"echo "\"\\\$\x" 'it'\''s'"#),
            [["echo", "\"\\$\\x", "it's"]]
        );
    }

    #[test]
    fn commands_are_joined_by_signs() {
        let commands = parse("a; b && c || d\ne;;").unwrap();
        let when: Vec<When> = commands.iter().map(|command| command.when).collect();
        assert_eq!(
            when,
            [
                When::Always,
                When::Always,
                When::Success,
                When::Failure,
                When::Always
            ]
        );
    }

    #[test]
    fn output_goes_to_the_last_named_file() {
        let command = &parse("echo hi>>/tmp/a there > '/tmp/b c'").unwrap()[0];
        assert_eq!(words(command), ["echo", "hi", "there"]);
        let output = command.output.as_ref().unwrap();
        assert_eq!(
            (output.path.expand(0), output.is_append),
            ("/tmp/b c".into(), false)
        );
    }

    #[test]
    fn comments_and_the_exit_code_are_understood() {
        assert_eq!(
            all("echo a#b $? \"<$?>\" '$?' $x # no\nls"),
            [vec!["echo", "a#b", "7", "<7>", "$?", "$x"], vec!["ls"]]
        );
        assert_eq!(all("# nothing"), Vec::<Vec<String>>::new());
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        assert_eq!(parse("echo 'a"), Err(ParseError::OpenQuote('\'')));
        assert_eq!(parse("echo \"a"), Err(ParseError::OpenQuote('"')));
        assert_eq!(parse("&& a"), Err(ParseError::MissingCommand("&&")));
        assert_eq!(parse("a &&"), Err(ParseError::MissingCommand("&&")));
        assert_eq!(parse("a || ; b"), Err(ParseError::MissingCommand(";")));
        assert_eq!(parse("a >"), Err(ParseError::MissingFile));
        assert_eq!(parse("> /tmp/x"), Err(ParseError::MissingCommand(">")));
        assert!(matches!(parse("a | b"), Err(ParseError::Unsupported(_))));
        assert!(matches!(parse("a &"), Err(ParseError::Unsupported(_))));
        assert!(matches!(parse("a < b"), Err(ParseError::Unsupported(_))));
    }

    proptest! {
        #[test]
        fn any_line_parses_or_is_refused(line in "[ a-c'\"\\\\;&|>#$?\n]{0,60}") {
            if let Ok(commands) = parse(&line) {
                prop_assert!(commands.iter().all(|command| !command.words.is_empty()));
            }
        }

        #[test]
        fn quoted_words_come_back(text in "[^']{0,40}") {
            prop_assert_eq!(all(&format!("echo '{text}'")), [["echo".to_string(), text]]);
        }
    }
}
