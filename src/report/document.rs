//! Headings, sentences and tables, as both pages show them: written once, spelled as Markdown or HTML.

use std::fmt::Write as _;

use super::markdown::plain;
use super::svg::escape;

/// Words up to this many bytes stand in one line of a table.
const SHORT: usize = 28;

/// Text in the order it is read.
#[derive(Clone, Debug, Default)]
pub(super) struct Document {
    blocks: Vec<Block>,
}

#[derive(Clone, Debug)]
enum Block {
    Heading(usize, String),
    Paragraph(String),
    Table(Table),
}

#[derive(Clone, Debug)]
struct Table {
    columns: Vec<String>,
    /// Columns of words; all others hold numbers.
    words: Vec<usize>,
    rows: Vec<Vec<String>>,
}

impl Document {
    /// Adds a heading; 2 is the highest level.
    pub(super) fn heading(&mut self, level: usize, text: &str) {
        self.blocks.push(Block::Heading(level, text.to_owned()));
    }

    /// Adds a paragraph.
    pub(super) fn say(&mut self, text: &str) {
        self.blocks.push(Block::Paragraph(text.to_owned()));
    }

    /// Begins a table whose first column names things and whose others hold numbers.
    pub(super) fn table(&mut self, columns: &[&str]) {
        self.table_with_words(columns, &[0]);
    }

    /// Begins a table whose columns `words` hold words and whose others hold numbers.
    pub(super) fn table_with_words(&mut self, columns: &[&str], words: &[usize]) {
        self.blocks.push(Block::Table(Table {
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            words: words.to_vec(),
            rows: Vec::new(),
        }));
    }

    /// Adds a row to the table begun last.
    pub(super) fn row(&mut self, cells: &[String]) {
        if let Some(Block::Table(table)) = self.blocks.last_mut() {
            table.rows.push(cells.to_vec());
        }
    }

    /// Adds what another document says.
    pub(super) fn append(&mut self, other: Self) {
        self.blocks.extend(other.blocks);
    }

    /// Returns whether it says nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.blocks.is_empty()
    }

    /// Returns it as Markdown, each block behind an empty line.
    pub(super) fn to_markdown(&self) -> String {
        let mut page = String::new();
        for block in &self.blocks {
            page.push('\n');
            match block {
                Block::Heading(level, text) => {
                    let _ = writeln!(page, "{} {}", "#".repeat(*level), plain(text));
                }
                Block::Paragraph(text) => {
                    let _ = writeln!(page, "{}", plain(text));
                }
                Block::Table(table) => table.write_markdown(&mut page),
            }
        }
        page
    }

    /// Returns it as HTML; a heading of level 2 is of level `2 + deeper` there.
    pub(super) fn to_html(&self, deeper: usize) -> String {
        let mut page = String::new();
        let mut blocks = self.blocks.iter().peekable();
        let mut in_row = false;
        while let Some(block) = blocks.next() {
            // A sentence that ends in a colon and its table stand together, several side by side.
            if let (Block::Paragraph(text), Some(Block::Table(table))) = (block, blocks.peek())
                && text.ends_with(':')
            {
                page.push_str(if in_row { "" } else { "<div class=\"abreast\">\n" });
                let _ = writeln!(page, "<div><p>{}</p>", escape(text));
                table.write_html(&mut page);
                page.push_str("</div>\n");
                blocks.next();
                in_row = true;
                continue;
            }
            page.push_str(if in_row { "</div>\n" } else { "" });
            in_row = false;
            match block {
                Block::Heading(level, text) => {
                    let level = (level + deeper).min(6);
                    let _ = writeln!(page, "<h{level}>{}</h{level}>", escape(text));
                }
                Block::Paragraph(text) => {
                    let _ = writeln!(page, "<p>{}</p>", escape(text));
                }
                Block::Table(table) => table.write_html(&mut page),
            }
        }
        page.push_str(if in_row { "</div>\n" } else { "" });
        page
    }
}

impl Table {
    fn write_markdown(&self, page: &mut String) {
        let line = |cells: &[String]| {
            let cells: Vec<String> = cells.iter().map(|cell| markdown_cell(cell)).collect();
            format!("| {} |\n", cells.join(" | "))
        };
        page.push_str(&line(&self.columns));
        let bars = (0..self.columns.len())
            .map(|column| if self.words.contains(&column) { "---|" } else { "--:|" });
        let _ = writeln!(page, "|{}", bars.collect::<String>());
        self.rows.iter().for_each(|row| page.push_str(&line(row)));
    }

    fn write_html(&self, page: &mut String) {
        let is_short = |column: usize| {
            self.rows.iter().all(|row| row.get(column).is_none_or(|cell| cell.len() <= SHORT))
        };
        let class = |column| match self.words.contains(&column) {
            false => " class=\"n\"",
            true if is_short(column) => " class=\"s\"",
            true => " class=\"w\"",
        };
        page.push_str("<div class=\"scroll\" tabindex=\"0\"><table>\n<thead><tr>");
        for (index, column) in self.columns.iter().enumerate() {
            let _ = write!(page, "<th scope=\"col\"{}>{}</th>", class(index), escape(column));
        }
        page.push_str("</tr></thead>\n<tbody>\n");
        for row in &self.rows {
            page.push_str("<tr>");
            for (index, cell) in row.iter().enumerate() {
                let (tag, scope) = if index == 0 { ("th", " scope=\"row\"") } else { ("td", "") };
                let _ = write!(page, "<{tag}{scope}{}>{}</{tag}>", class(index), escape(cell));
            }
            page.push_str("</tr>\n");
        }
        page.push_str("</tbody></table></div>\n");
    }
}

/// A cell of figures alone, such as an interval, stands as it is.
pub fn markdown_cell(cell: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_digit() || " .,%+-[]()".contains(letter);
    if cell.chars().all(is_plain) { cell.to_owned() } else { plain(cell) }
}
