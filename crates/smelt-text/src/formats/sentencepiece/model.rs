//! The protocol buffer of a SentencePiece model, as far as tokenizing needs it
//! (`sentencepiece_model.proto`).

use std::error::Error;

/// Kinds of model that can be converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The most likely pieces.
    Unigram,
    /// Joined neighbours.
    Bpe,
}

/// What a piece is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PieceKind {
    /// Learned.
    Normal,
    /// Stands for what no piece expresses.
    Unknown,
    /// Never met in text, such as `<s>`.
    Control,
    /// Never split.
    UserDefined,
    /// Not to be used.
    Unused,
    /// One byte.
    Byte,
}

/// An entry of the vocabulary.
#[derive(Debug)]
pub struct Piece {
    /// Its spelling, with `▁` for a space.
    pub text: String,
    /// Its logarithmic likelihood, or its place in the order of joining.
    pub score: f32,
    /// What it is.
    pub kind: PieceKind,
}

/// What happens to a text before it is split.
#[derive(Debug)]
pub struct Normalizer {
    /// A compiled map of characters; empty for none.
    pub charsmap: Vec<u8>,
    /// Whether a space is put before the text.
    pub add_dummy_prefix: bool,
    /// Whether runs of spaces become one and those at the ends go.
    pub remove_extra_whitespaces: bool,
}

/// A model.
#[derive(Debug)]
pub struct Model {
    /// The vocabulary in id order.
    pub pieces: Vec<Piece>,
    /// How it splits.
    pub kind: Kind,
    /// Whether characters without a piece become bytes.
    pub byte_fallback: bool,
    /// The token that begins a text.
    pub begin_id: Option<u32>,
    /// The token that ends a text.
    pub end_id: Option<u32>,
    /// What happens before.
    pub normalizer: Normalizer,
}

type Cause = Box<dyn Error + Send + Sync>;

impl Model {
    /// Reads a model.
    ///
    /// # Errors
    /// If the bytes are no such model, are cut, or ask for what cannot be converted.
    pub fn parse(bytes: &[u8]) -> Result<Self, Cause> {
        let normalizer =
            Normalizer { charsmap: Vec::new(), add_dummy_prefix: true, remove_extra_whitespaces: true };
        // Defaults of the format.
        let (begin_id, end_id) = (Some(1), Some(2));
        let mut model = Self {
            pieces: Vec::new(),
            kind: Kind::Unigram,
            byte_fallback: false,
            begin_id,
            end_id,
            normalizer,
        };
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(piece)) => model.pieces.push(Piece::parse(piece)?),
                (2, Field::Bytes(trainer)) => model.read_trainer(trainer)?,
                (3, Field::Bytes(normalizer)) => model.read_normalizer(normalizer)?,
                _ => {}
            }
        }
        match model.pieces.is_empty() {
            true => Err("it holds no pieces".into()),
            false => Ok(model),
        }
    }

    /// The place of the unknown piece.
    pub fn unknown_id(&self) -> Option<usize> {
        self.pieces.iter().position(|piece| piece.kind == PieceKind::Unknown)
    }

    fn read_trainer(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (3, Field::Number(1)) => self.kind = Kind::Unigram,
                (3, Field::Number(2)) => self.kind = Kind::Bpe,
                (3, _) => return Err("it is neither a unigram nor a BPE model".into()),
                (24, Field::Number(1)) => return Err("it puts spaces behind words".into()),
                (35, Field::Number(value)) => self.byte_fallback = value != 0,
                // Absent tokens have the id -1.
                (41, Field::Number(id)) => self.begin_id = u32::try_from(id).ok(),
                (42, Field::Number(id)) => self.end_id = u32::try_from(id).ok(),
                _ => {}
            }
        }
        Ok(())
    }

    fn read_normalizer(&mut self, bytes: &[u8]) -> Result<(), Cause> {
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (2, Field::Bytes(charsmap)) => self.normalizer.charsmap = charsmap.to_vec(),
                (3, Field::Number(value)) => self.normalizer.add_dummy_prefix = value != 0,
                (4, Field::Number(value)) => self.normalizer.remove_extra_whitespaces = value != 0,
                (5, Field::Number(0)) => return Err("it leaves spaces as they are".into()),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Piece {
    fn parse(bytes: &[u8]) -> Result<Self, Cause> {
        let mut piece = Self { text: String::new(), score: 0.0, kind: PieceKind::Normal };
        let mut fields = Fields(bytes);
        while let Some((number, field)) = fields.next()? {
            match (number, field) {
                (1, Field::Bytes(text)) => piece.text = str::from_utf8(text)?.to_owned(),
                (2, Field::Fixed(bits)) => piece.score = f32::from_bits(bits),
                (3, Field::Number(kind)) => {
                    piece.kind = match kind {
                        1 => PieceKind::Normal,
                        2 => PieceKind::Unknown,
                        3 => PieceKind::Control,
                        4 => PieceKind::UserDefined,
                        5 => PieceKind::Unused,
                        6 => PieceKind::Byte,
                        other => return Err(format!("a piece is of the unknown kind {other}").into()),
                    }
                }
                _ => {}
            }
        }
        if piece.text.is_empty() || !piece.score.is_finite() {
            return Err(format!("piece `{}` has the score {}", piece.text, piece.score).into());
        }
        Ok(piece)
    }
}

/// A value on the wire.
enum Field<'b> {
    Number(u64),
    Fixed(u32),
    Bytes(&'b [u8]),
    /// 64 bits, which no field of interest has.
    Other,
}

/// The fields of a message, one after the other.
struct Fields<'b>(&'b [u8]);

impl<'b> Fields<'b> {
    /// The next field with its number; none at the end.
    fn next(&mut self) -> Result<Option<(u64, Field<'b>)>, Cause> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let key = self.number()?;
        let field = match key & 7 {
            0 => Field::Number(self.number()?),
            1 => {
                self.take(8)?;
                Field::Other
            }
            2 => {
                let length = self.number()?;
                Field::Bytes(self.take(usize::try_from(length)?)?)
            }
            5 => Field::Fixed(u32::from_le_bytes(self.take(4)?.try_into()?)),
            kind => return Err(format!("a field is of the unknown wire type {kind}").into()),
        };
        Ok(Some((key >> 3, field)))
    }

    /// Seven bits per byte, the lowest first.
    fn number(&mut self) -> Result<u64, Cause> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 0x7F) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err("a number has more than 64 bits".into())
    }

    fn take(&mut self, length: usize) -> Result<&'b [u8], Cause> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("it ends in the middle of a field")?;
        self.0 = rest;
        Ok(taken)
    }
}
