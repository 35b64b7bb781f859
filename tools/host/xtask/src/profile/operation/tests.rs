use super::*;

/// A function; those of the standard library have a star.
fn frame(name: &str) -> Frame {
    let function = name.trim_start_matches('*').to_owned();
    Frame {
        place: Some(format!("{function}.rs:{}", function.len())),
        is_ours: function == name,
        function,
    }
}

/// An instruction; functions from the outermost to the innermost.
fn line(program: &str, pc: u64, flow: Flow, functions: &[&str]) -> Rc<Line> {
    let frames = functions.iter().rev().map(|name| frame(name));
    Rc::new(Line {
        program: program.to_owned(),
        ring: if program == "kernel" {
            Ring::Kernel
        } else {
            Ring::User
        },
        pc,
        next: pc + 1,
        text: format!("instruction {pc:x}"),
        flow,
        frames: frames.collect(),
    })
}

/// A program calls its stub, which calls the kernel; another program answers from its loop.
fn operation() -> Operation {
    let (call, back, other) = (Flow::Call, Flow::Return, Flow::Other);
    let lines = vec![
        line("bench", 0x10, call, &["run"]),
        line("bench", 0x20, other, &["stub", "pack"]),
        line("bench", 0x21, other, &["stub"]),
        line("kernel", 0x90, other, &["entry"]),
        line("kernel", 0x91, other, &["entry", "lock", "cell", "*swap"]),
        line("server", 0x33, back, &["wait"]),
        line("server", 0x41, call, &["serve"]),
        line("server", 0x32, other, &["wait"]),
        line("kernel", 0x90, other, &["entry"]),
        line("bench", 0x22, back, &["stub"]),
        line("bench", 0x11, other, &["run"]),
    ];
    Operation {
        lines,
        operations: 1.0,
    }
}

#[test]
fn the_table_counts_by_function_and_by_what_is_inlined() {
    let table = operation().table();
    let rows: Vec<String> = table
        .lines()
        .skip(1)
        .map(|row| {
            let words: Vec<&str> = row.split_whitespace().collect();
            words.join(" ")
        })
        .collect();
    let expected = [
        "11 100.0 % all",
        "5 45.5 % bench",
        "3 27.3 % kernel",
        "3 27.3 % server",
        "",
        "3 27.3 % bench: stub",
        "2 18.2 % (itself)",
        "1 9.1 % pack",
        "3 27.3 % kernel: entry",
        "2 18.2 % (itself)",
        "1 9.1 % lock",
        "2 18.2 % bench: run",
        "2 18.2 % server: wait",
        "1 9.1 % server: serve",
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_turn_may_be_several_operations() {
    let mut operation = operation();
    operation.operations = 2.0;
    assert_eq!(operation.instructions(), 5.5);
    let table = operation.table();
    assert!(table.lines().nth(1).unwrap().contains("5.5"), "{table}");
}

#[test]
fn the_course_is_in_the_order_of_execution() {
    let course = operation().course();
    let functions: Vec<&str> = course
        .lines()
        .skip(1)
        .filter_map(|row| row.rsplit("  ").next())
        .collect();
    let expected = [
        "bench: run",
        "bench: stub",
        "kernel: entry",
        "server: wait",
        "server: serve",
        "server: wait",
        "kernel: entry",
        "bench: stub",
        "bench: run",
    ];
    assert_eq!(functions, expected);
    let third = course.lines().nth(3).unwrap();
    assert!(third.trim_start().starts_with("4             2"), "{third}");
}

#[test]
fn the_listing_names_places_in_own_sources() {
    let listing = operation().listing();
    let row = listing
        .lines()
        .find(|row| row.contains("instruction 91"))
        .unwrap();
    assert!(row.trim_start().starts_with('5'), "{row}");
    assert!(row.ends_with("cell.rs:4  cell"), "{row}");
    assert_eq!(
        listing.matches("\n\n").count() + 1,
        9,
        "a title for each part:\n{listing}"
    );
}

#[test]
fn stacks_go_on_where_programs_were() {
    let expected = [
        "bench;run 2",
        "bench;run;stub 2",
        "bench;run;stub;pack 1",
        "kernel;entry 2",
        "kernel;entry;lock;cell;swap 1",
        "server;serve 1",
        "server;serve;wait 2",
    ];
    assert_eq!(operation().stacks(), expected);
}

#[test]
fn types_with_semicolons_do_not_break_stacks() {
    let operation = Operation {
        lines: vec![line("kernel", 1, Flow::Other, &["copy<[u8; 4]>"])],
        operations: 1.0,
    };
    assert_eq!(operation.stacks(), ["kernel;copy<[u8, 4]> 1"]);
}
