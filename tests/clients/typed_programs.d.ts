// Made by `streamll types typed_programs:review typed_programs:TwoSteps typed_programs:greet typed_programs:only_text`: make it anew rather than edit it.

/** Programs by their names. */
export interface Programs {
  review: Review;
  TwoSteps: TwoSteps;
  greet: Greet;
  "the text-only one": TheTextOnlyOne;
}

/** Review the code. */
export interface Review {
  program: "review";
  inputs: ReviewInputs;
  outputs: ReviewOutputs;
}

export interface ReviewInputs {
  /**
   * With "quotes", *\/ and
   * lines
   */
  code: string;
  style: "short" | "in \"quotes\"" | "über";
  levels?: Level[];
  known: FindingInput;
  history?: History;
  picture?: string | { url: string } | null;
}

export interface ReviewOutputs {
  /** What is wrong */
  findings: Finding[];
  tree: Tree;
  options: Options;
  page: Page_Severity_;
  patch: string;
  tags: string[];
  calls: ToolCalls;
  sketch: unknown;
  note: string | null;
  verdict: string;
}

/** Plan, then write. */
export interface TwoSteps {
  program: "TwoSteps";
  inputs: TwoStepsInputs;
  outputs: TwoStepsOutputs;
}

export interface TwoStepsInputs {
  topic: string;
  depth?: number | null;
  own?: unknown;
}

export interface TwoStepsOutputs {
  outline?: string[];
  title: number | string;
  reasoning: string;
  text: string;
}

/** A function is a program, too. */
export interface Greet {
  program: "greet";
  inputs: GreetInputs;
  outputs: GreetOutputs;
}

export interface GreetInputs {
  name: string;
  loudly?: boolean;
}

export type GreetOutputs = { [name: string]: unknown };

/** Plan, then write. */
export interface TheTextOnlyOne {
  program: "the text-only one";
  inputs: TheTextOnlyOneInputs;
  outputs: TheTextOnlyOneOutputs;
}

export interface TheTextOnlyOneInputs {
  topic: string;
  depth?: number | null;
  own?: unknown;
}

export interface TheTextOnlyOneOutputs {
  text: string;
}

export interface Cat {
  kind: "cat";
  lives: number;
}

export interface DogInput {
  kind: "dog";
  barks?: true;
}

export interface Dog {
  kind: "dog";
  barks: true;
}

export interface FindingInput {
  /** In a few words */
  title: string;
  "line-number": number;
  severity?: Severity;
  cost?: number | string;
  since?: string | null;
  pet: Cat | DogInput;
  range: [number, "a" | "b"];
  ranges: number[];
  by_letter: { [name in "a" | "b"]?: PlaceInput };
  by_number: { [name: string]: (string | number)[] };
  anything: unknown;
  json_value?: JsonValue;
}

export interface Finding {
  /** In a few words */
  title: string;
  line_number: number;
  severity: Severity;
  cost: string;
  since: string | null;
  pet: Cat | Dog;
  range: [number, "a" | "b"];
  ranges: number[];
  by_letter: { [name in "a" | "b"]?: Place };
  by_number: { [name: string]: (string | number)[] };
  anything: unknown;
  json_value: JsonValue;
}

/** Class representing the conversation history. */
export interface History {
  messages: { [name: string]: unknown }[];
}

export type JsonValue = unknown;

export type Level = 1 | 2;

export interface Options {
  depth: number;
  words?: string;
}

export interface Page_Severity_ {
  items: Severity[];
}

/**
 * Where something is,
 * in two lines.
 */
export interface PlaceInput {
  line: number;
  column?: number;
}

/**
 * Where something is,
 * in two lines.
 */
export interface Place {
  line: number;
  column: number;
}

export type Severity = "low" | "high";

export interface ToolCall {
  name: string;
  args: { [name: string]: unknown };
}

export interface ToolCalls {
  tool_calls: ToolCall[];
}

/** A tree. *\/ const injected = 1; /* */
export interface Tree {
  label: string | null;
  children: Tree[];
}
