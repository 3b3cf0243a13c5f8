//! Reads the part of YAML that the files of `integrations/` use: block mappings and lists, flow
//! collections on one line, literal blocks (`|`), quoted scalars without escapes, comments. It panics
//! at anything else. All scalars stay text.

use serde_json::{Map, Value};

pub fn documents(text: &str) -> Vec<Value> {
    text.split("\n---\n").map(document).collect()
}

fn document(text: &str) -> Value {
    let mut reader = Reader { lines: text.lines().map(str::to_owned).collect(), next: 0 };
    let value = reader.block(0);
    assert_eq!(reader.peek(), None, "line {} is indented less than its block", reader.next + 1);
    value
}

struct Reader {
    lines: Vec<String>,
    next: usize,
}

impl Reader {
    /// The next line that has content: its indentation, and the content without a comment.
    fn peek(&mut self) -> Option<(usize, String)> {
        loop {
            let line = self.lines.get(self.next)?;
            let content = without_comment(line.trim_start());
            if !content.is_empty() {
                return Some((line.len() - line.trim_start().len(), content.to_owned()));
            }
            self.next += 1;
        }
    }

    fn block(&mut self, indent: usize) -> Value {
        match self.peek() {
            Some((_, content)) if is_list_item(&content) => self.list(indent),
            Some((_, content)) if key_and_rest(&content).is_some() => self.mapping(indent),
            Some((_, content)) => {
                self.next += 1;
                inline(&content)
            }
            None => Value::Null,
        }
    }

    fn list(&mut self, indent: usize) -> Value {
        let mut items = Vec::new();
        while let Some((at, content)) = self.peek() {
            if at != indent || !is_list_item(&content) {
                break;
            }
            // Without its dash, the item is a block of its own that is indented by two more.
            self.lines[self.next].replace_range(indent..=indent, " ");
            let (at, content) = self.peek().expect("a list item has content");
            if content == "|" {
                self.next += 1;
                items.push(self.literal(indent));
            } else {
                items.push(self.block(at));
            }
        }
        Value::Array(items)
    }

    fn mapping(&mut self, indent: usize) -> Value {
        let mut map = Map::new();
        while let Some((at, content)) = self.peek() {
            if at != indent || is_list_item(&content) {
                break;
            }
            let (key, rest) = key_and_rest(&content)
                .unwrap_or_else(|| panic!("line {} has no key", self.next + 1));
            self.next += 1;

            let value = match rest {
                "" => self.nested(indent),
                "|" => self.literal(indent),
                rest => inline(rest),
            };
            let before = map.insert(key.to_owned(), value);
            assert!(before.is_none(), "{key} occurs twice");
        }
        Value::Object(map)
    }

    /// The block below a key: indented more than the key, or a list with the key's indentation.
    fn nested(&mut self, indent: usize) -> Value {
        match self.peek() {
            Some((at, _)) if at > indent => self.block(at),
            Some((at, content)) if at == indent && is_list_item(&content) => self.list(at),
            _ => Value::Null,
        }
    }

    fn literal(&mut self, indent: usize) -> Value {
        let mut text = String::new();
        let mut margin = None;
        while let Some(line) = self.lines.get(self.next) {
            let at = line.len() - line.trim_start().len();
            if !line.trim().is_empty() && at <= indent {
                break;
            }
            let margin = *margin.get_or_insert(at);
            text.push_str(line.get(margin..).unwrap_or_default());
            text.push('\n');
            self.next += 1;
        }
        Value::String(text)
    }
}

fn is_list_item(content: &str) -> bool {
    content.starts_with("- ")
}

/// Splits `key: rest` at its first colon that a blank or the line's end follows.
fn key_and_rest(content: &str) -> Option<(&str, &str)> {
    if content.starts_with(['{', '[', '"', '\'']) {
        return None;
    }
    content.split_once(": ").or_else(|| Some((content.strip_suffix(':')?, "")))
}

/// Cuts a comment off, which begins at a `#` outside quotes, at the start or after a blank.
fn without_comment(content: &str) -> &str {
    let mut quote = None;
    let mut before = ' ';
    for (at, c) in content.char_indices() {
        match quote {
            Some(open) if c == open => quote = None,
            None if c == '#' && before == ' ' => return content[..at].trim_end(),
            None if matches!(c, '"' | '\'') && !before.is_alphanumeric() => quote = Some(c),
            _ => (),
        }
        before = c;
    }
    content.trim_end()
}

/// A value that is on one line.
fn inline(text: &str) -> Value {
    if !text.starts_with(['{', '[']) {
        return Value::String(scalar(text));
    }
    let (value, rest) = flow(text);
    assert_eq!(rest.trim(), "", "text after a flow collection");
    value
}

/// A flow collection or a scalar inside one, and the text after it.
fn flow(text: &str) -> (Value, &str) {
    let text = text.trim_start();
    if let Some(rest) = text.strip_prefix('[') {
        return flow_list(rest);
    }
    if let Some(rest) = text.strip_prefix('{') {
        return flow_mapping(rest);
    }
    let end = match text.chars().next() {
        Some(quote @ ('"' | '\'')) => text[1..].find(quote).expect("a closing quote") + 2,
        _ => text.find([',', ']', '}']).expect("the end of a flow collection"),
    };
    (Value::String(scalar(text[..end].trim())), &text[end..])
}

fn flow_list(mut rest: &str) -> (Value, &str) {
    let mut items = Vec::new();
    loop {
        if let Some(rest) = rest.trim_start().strip_prefix(']') {
            return (Value::Array(items), rest);
        }
        let (item, after) = flow(rest);
        items.push(item);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn flow_mapping(mut rest: &str) -> (Value, &str) {
    let mut map = Map::new();
    loop {
        if let Some(rest) = rest.trim_start().strip_prefix('}') {
            return (Value::Object(map), rest);
        }
        let (key, after) = rest.split_once(": ").expect("a key");
        let (value, after) = flow(after);
        map.insert(key.trim().to_owned(), value);
        rest = after.trim_start();
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
}

fn scalar(text: &str) -> String {
    for quote in ['"', '\''] {
        let inner = text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        if let Some(inner) = inner {
            assert!(!inner.contains(['\\', quote]), "{text}: escapes are not read");
            return inner.to_owned();
        }
    }
    assert!(!text.starts_with(['&', '*', '!', '>', '%', '@', '"', '\'']), "{text} is not read");
    text.to_owned()
}
