// Made by `streamll types review.py:review`: make it anew rather than edit it.

/** Programs by their names. */
export interface Programs {
  review: Review;
}

/** Review the code. */
export interface Review {
  program: "review";
  inputs: ReviewInputs;
  outputs: ReviewOutputs;
}

export interface ReviewInputs {
  code: string;
}

export interface ReviewOutputs {
  /** What is wrong, the worst first */
  findings: Finding[];
  summary: string;
}

export interface Finding {
  title: string;
  severity: "low" | "high";
  line: number;
}
